//! Enums that are chosen by name, in configuration, documents and on the command line.

/// Gives an enum `ALL` and `name()`, and lets it be shown and read by its names.
#[macro_export]
macro_rules! choices {
    ($type:ident, $what:literal: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// All of them.
            pub const ALL: [$type; [$($name),+].len()] = [$($type::$variant),+];

            /// Its name, in configuration and on the command line.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                let named = $type::ALL.into_iter().find(|choice| choice.name() == s);
                named.ok_or_else(|| $crate::choices::unknown($what, s, &[$($name),+]))
            }
        }
    };
}

/// What is said of a name that is none of these.
pub fn unknown(what: &str, said: &str, names: &[&str]) -> String {
    let (last, others) = names.split_last().expect("a choice has names");
    format!("unknown {what} '{said}': choose {} or {last}", others.join(", "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_name_is_told_with_those_that_there_are() {
        let error = "lazy".parse::<crate::Profile>().unwrap_err();
        assert_eq!(error, "unknown profile 'lazy': choose open, signed or secure");
        assert_eq!("secure".parse(), Ok(crate::Profile::Secure));
        assert_eq!(crate::LinkFamily::ALL.map(|links| links.to_string()), ["noise", "tls"]);
    }
}
