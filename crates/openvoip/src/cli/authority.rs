//! Giving names to a community: the service, and what is done beside it with its file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use node::Charter;
use openvoip::authority::{ANY_NAME, Invitation, Policy, Store, USUAL_INVITATION, USUAL_LIFE, new_code};
use openvoip::control::{self, exit};
use openvoip::home::Home;
use openvoip::{invitation, serve};
use serde_json::{Value, json};
use wire::UnixTime;
use wire::certificate::{MAX_LIFE, check_aor};

use super::answer::Context;
use super::peer::{self, Common};

/// Give names to a community: run its authority, until `openvoip down` or Ctrl-C; or, with a command, invite and
/// revoke while it runs. It is a peer whose key the overlay's document names, and in the way of no call.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Authority {
    #[command(subcommand)]
    beside: Option<Beside>,
    #[command(flatten)]
    service: Run,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// Start only if the document says that this key gives the names of this domain.
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Give a free name to whoever asks, within limits, and not only for a code.
    #[arg(long)]
    open: bool,
    /// How long certificates last, in hours, 1 to 720.
    #[arg(long, value_name = "HOURS", default_value_t = USUAL_LIFE / 3_600, value_parser = clap::value_parser!(u64).range(1..=MAX_LIFE / 3_600))]
    hours: u64,
}

#[derive(Subcommand)]
enum Beside {
    /// Show the authority's key, made when first asked for, as the document has to name it.
    Key {
        /// The difficulty of the overlay's admission puzzle.
        #[arg(long, value_name = "N", default_value_t = 0)]
        difficulty: u8,
    },
    /// Make a code with which somebody gets a name: once, and within a week.
    Invite {
        /// The name, for example alice@camp.example; `*` for any that is free.
        name: String,
        /// How often the code can be used.
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
        /// For how many hours it can be used.
        #[arg(long, value_name = "HOURS", default_value_t = USUAL_INVITATION / 3_600, value_parser = clap::value_parser!(u64).range(1..=8_760))]
        expires: u64,
        /// Give the name to a new key, and revoke the one that has it.
        #[arg(long)]
        replace: bool,
    },
    /// The names that were given, and the codes that are out.
    List,
    /// Take a name back: its key is called no more, and gets no other certificate.
    Revoke {
        /// The name.
        name: String,
    },
}

impl Authority {
    pub(crate) fn run(self, context: &Context) -> i32 {
        match self.beside {
            None => self.service.run(context),
            Some(beside) => context.show(match beside.carry_out(context) {
                Ok(body) => control::answer("authority", exit::OK, body),
                Err(e) => control::failure(exit::FAILED, &e, "openvoip authority --help"),
            }),
        }
    }
}

impl Run {
    fn run(self, context: &Context) -> i32 {
        let policy = Policy { open: self.open, life: self.hours * 3_600 };
        peer::serve(context, self.common.resolve(context), |resolved, home| {
            let peers = invitation::take_document(resolved, home)?;
            resolved.settings.bootstrap.extend(peers);
            let own = home.identity(&[], &resolved.config().overlay)?.peer.public();
            let ours = |a: &&wire::document::Authority| a.key == own;
            let document = resolved.charter.as_ref().and_then(Charter::newest);
            let named = document.into_iter().flat_map(|document| &document.authorities).filter(ours);
            let domains: Vec<&str> = named.map(|a| a.domain.as_str()).collect();
            let wanted = self.domain.as_deref();
            if domains.is_empty() || wanted.is_some_and(|domain| !domains.contains(&domain)) {
                return Err(format!(
                    "no document says that this key gives names here. Next: openvoip overlay sign FILE --key KEYFILE \
                     --authority {}={own}@{}, and start with --document FILE",
                    wanted.unwrap_or("DOMAIN"),
                    resolved.settings.listen
                ));
            }
            Ok(serve::Names { authority: Some(policy), code: None })
        })
    }
}

impl Beside {
    fn carry_out(self, context: &Context) -> Result<Value, String> {
        let home = Home::open(&context.data_dir)?;
        let store = Store::new(PathBuf::from(home.path()));
        let now = serve::unix_now();
        match self {
            Beside::Key { difficulty } => {
                let overlay = node::OverlayOptions { difficulty, ..node::OverlayOptions::default() };
                Ok(json!({ "public_key": home.identity(&[], &overlay)?.peer.public().to_string() }))
            }
            Beside::Invite { name, uses, expires, replace } => {
                let name = if name == ANY_NAME { name } else { known(&name)? };
                let expires = now.0 + expires * 3_600;
                let code = new_code()?;
                store.invite(&code, &Invitation { name: name.clone(), uses, expires, replace }, now)?;
                Ok(
                    json!({ "code": code, "name": name, "uses": uses, "expires": expires, "replace": replace }),
                )
            }
            Beside::List => {
                let name = |(name, e): (String, openvoip::authority::Entry)| json!({ "name": name, "key": e.key, "since": e.since, "until": e.until, "revoked": e.revoked });
                let names: Vec<Value> = store.names()?.into_iter().map(name).collect();
                Ok(
                    json!({ "names": names, "invitations": store.invitations(now)?.into_values().collect::<Vec<_>>() }),
                )
            }
            Beside::Revoke { name } => {
                let name = known(&name)?;
                let entry = store.revoke(&name, UnixTime(now.0))?;
                Ok(json!({ "name": name, "key": entry.key, "until": entry.until, "revoked": true }))
            }
        }
    }
}

/// A name as it is certified.
fn known(name: &str) -> Result<String, String> {
    let name = node::canonical_aor(name, "");
    check_aor(&name).map_err(|flaw| flaw.to_string())?;
    Ok(name)
}
