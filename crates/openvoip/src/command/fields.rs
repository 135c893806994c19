//! How the fields of a command are read from JSON.

use std::time::Duration;

use node::{Mode, Target};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use wire::p2pp::Kind;

/// Longest time span of a command: a year.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

pub(super) fn some_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}

pub(super) fn target<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Target>, D::Error> {
    Ok(some_text(from)?.map(|text| {
        let Ok(target) = text.parse();
        target
    }))
}

pub(super) fn target_there<'de, D: Deserializer<'de>>(from: D) -> Result<Target, D::Error> {
    target(from)?.ok_or_else(|| D::Error::custom("a Node-ID, an address or a user is missing"))
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    match Option::<f64>::deserialize(from)? {
        None => Ok(None),
        Some(s) if (0.0..=LONGEST.as_secs_f64()).contains(&s) => Ok(Some(Duration::from_secs_f64(s))),
        Some(s) => Err(D::Error::custom(format!("{s} is not a number of seconds from 0 to a year"))),
    }
}

pub(super) fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
    some_text(from)?.map_or(Ok(Mode::default()), |text| text.parse().map_err(D::Error::custom))
}

pub(super) fn user_kind() -> Kind {
    Kind::USER
}

pub(super) fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
    some_text(from)?.map_or(Ok(Kind::USER), |text| text.parse().map_err(D::Error::custom))
}

pub(super) fn data_kind() -> Kind {
    Kind::DATA
}

pub(super) fn value_kind<'de, D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
    some_text(from)?.map_or(Ok(Kind::DATA), |text| text.parse().map_err(D::Error::custom))
}

/// A text, or `{"hex": "..."}` for bytes that are none.
pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Hex { hex: String },
    }
    match Value::deserialize(from)? {
        Value::Text(text) => Ok(text.into_bytes()),
        Value::Hex { hex } => {
            data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(D::Error::custom)
        }
    }
}
