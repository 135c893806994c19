//! What can be typed in a laboratory.

use std::time::Duration;

/// Most peers that one line names or starts.
const MAX_COUNT: usize = 5_000;

/// How long `watch` lasts when nothing else is said.
const WATCH: Duration = Duration::from_secs(10);

/// The answer to `help`.
pub(super) const HELP: &str = "\
add [N]                        N more peers (1), each with a user: peer 7 serves user7@lab.test
kill N... | random K [--silent]  end peers without a goodbye; with --silent nothing comes back from them,
                               as if a cable were cut, else the system tells others that the port is closed
leave N...                     let peers say goodbye
list                           the peers that live
table N                        the routing table of peer N
lookup WHO [from N]            find a user (7 is user7@lab.test) or a key, and show the way
put KEY VALUE [from N]         store a value at the peers it belongs to
get KEY [from N]               read it
status [N]                     the laboratory, or peer N
watch [SECONDS] [lookups R]    a line a second: peers, table entries that lead to nobody, bytes by function,
                               and how R random lookups a second go; on a terminal, Enter ends it
help | quit";

/// A line that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    Add(usize),
    Kill { who: Victims, silently: bool },
    Leave(Vec<usize>),
    List,
    Table(usize),
    Lookup { who: String, from: Option<usize> },
    Put { key: String, value: String, from: Option<usize> },
    Get { key: String, from: Option<usize> },
    Status(Option<usize>),
    Watch { time: Duration, lookups_per_s: u32 },
    Help,
    Quit,
}

/// Who is to be killed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Victims {
    These(Vec<usize>),
    Random(usize),
}

/// Why a line was not understood, and what to type instead.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Misunderstood {
    pub(super) reason: String,
    pub(super) next: &'static str,
}

impl Order {
    /// Reads a line; `None` if there is nothing on it. What follows a `#` is a remark.
    pub(super) fn read(line: &str) -> Result<Option<Order>, Misunderstood> {
        let line = line.split('#').next().unwrap_or_default();
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let Some(first) = words.first().copied() else { return Ok(None) };
        words.remove(0);
        let order = match (first, &words[..]) {
            ("add", []) => Order::Add(1),
            ("add", [count]) => Order::Add(number(count, "add 5")?.clamp(1, MAX_COUNT)),
            ("kill", _) => {
                let is_flag = |word: &&str| matches!(*word, "--silent" | "--silently");
                let silently = words.iter().any(is_flag);
                words.retain(|word| !is_flag(word));
                let who = match &words[..] {
                    ["random"] => Victims::Random(1),
                    ["random", count] => Victims::Random(number(count, "kill random 3")?.max(1)),
                    some => Victims::These(numbers(some, "kill 3, kill 3 4 5, or kill random 2 --silent")?),
                };
                Order::Kill { who, silently }
            }
            ("leave", some) => Order::Leave(numbers(some, "leave 3")?),
            ("list", []) => Order::List,
            ("table", [peer]) => Order::Table(number(peer, "table 3")?),
            ("lookup", [who, rest @ ..]) => Order::Lookup { who: (*who).into(), from: from(rest)? },
            ("get", [key, rest @ ..]) => Order::Get { key: (*key).into(), from: from(rest)? },
            ("put", [key, rest @ ..]) if !rest.is_empty() => {
                let (value, tail) = match rest {
                    [value @ .., "from", peer] if !value.is_empty() => (value, &["from", *peer][..]),
                    value => (value, &[][..]),
                };
                Order::Put { key: (*key).into(), value: value.join(" "), from: from(tail)? }
            }
            ("status", []) => Order::Status(None),
            ("status", [peer]) => Order::Status(Some(number(peer, "status 3")?)),
            ("watch", rest) => watch(rest)?,
            ("help", _) => Order::Help,
            ("quit" | "exit", _) => Order::Quit,
            (known, _) if HELP.lines().any(|line| line.split(' ').next() == Some(known)) => {
                return Err(Misunderstood {
                    reason: format!("'{known}' takes other words than these"),
                    next: "help",
                });
            }
            (other, _) => {
                return Err(Misunderstood { reason: format!("there is no command '{other}'"), next: "help" });
            }
        };
        Ok(Some(order))
    }
}

fn watch(words: &[&str]) -> Result<Order, Misunderstood> {
    const NEXT: &str = "watch, watch 20, or watch 20 lookups 5";
    let (time, rest) = match words {
        [seconds, rest @ ..] if *seconds != "lookups" => (Some(seconds), rest),
        rest => (None, rest),
    };
    let seconds = |n: usize| Duration::from_secs(n.clamp(1, 86_400) as u64);
    let time = time.map_or(Ok(WATCH), |text| number(text, NEXT).map(seconds))?;
    let lookups_per_s = match rest {
        [] => 0,
        ["lookups", rate] => number(rate, NEXT)?.min(1_000) as u32,
        _ => return Err(Misunderstood { reason: "'watch' takes other words than these".into(), next: NEXT }),
    };
    Ok(Order::Watch { time, lookups_per_s })
}

fn from(words: &[&str]) -> Result<Option<usize>, Misunderstood> {
    const NEXT: &str = "end the line with 'from' and the number of a peer: from 3";
    match words {
        [] => Ok(None),
        ["from", peer] => number(peer, NEXT).map(Some),
        _ => Err(Misunderstood { reason: format!("'{}' is too much", words.join(" ")), next: NEXT }),
    }
}

fn numbers(words: &[&str], next: &'static str) -> Result<Vec<usize>, Misunderstood> {
    if words.is_empty() || words.len() > MAX_COUNT {
        return Err(Misunderstood { reason: "numbers of peers are wanted".into(), next });
    }
    words.iter().map(|word| number(word, next)).collect()
}

fn number(word: &str, next: &'static str) -> Result<usize, Misunderstood> {
    word.parse().map_err(|_| Misunderstood { reason: format!("'{word}' is no number"), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_say() {
        let kill = |who, silently| Order::Kill { who, silently };
        let watch =
            |seconds, lookups_per_s| Order::Watch { time: Duration::from_secs(seconds), lookups_per_s };
        for (line, order) in [
            ("add", Order::Add(1)),
            ("add 12  # a dozen", Order::Add(12)),
            ("kill 3", kill(Victims::These(vec![3]), false)),
            ("kill --silent 3 4", kill(Victims::These(vec![3, 4]), true)),
            ("kill random 5 --silent", kill(Victims::Random(5), true)),
            ("leave 2", Order::Leave(vec![2])),
            ("lookup 7", Order::Lookup { who: "7".into(), from: None }),
            ("lookup user7 from 2", Order::Lookup { who: "user7".into(), from: Some(2) }),
            ("put k v w", Order::Put { key: "k".into(), value: "v w".into(), from: None }),
            ("put k v from 3", Order::Put { key: "k".into(), value: "v".into(), from: Some(3) }),
            ("get k", Order::Get { key: "k".into(), from: None }),
            ("status 4", Order::Status(Some(4))),
            ("watch", watch(10, 0)),
            ("watch lookups 5", watch(10, 5)),
            ("watch 3 lookups 5", watch(3, 5)),
            ("exit", Order::Quit),
        ] {
            assert_eq!(Order::read(line), Ok(Some(order)), "{line}");
        }
        assert_eq!(Order::read("  # nothing"), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_answered_with_what_to_type() {
        for (line, reason, next) in [
            ("kil 3", "no command 'kil'", "help"),
            ("kill", "numbers of peers", "kill 3"),
            ("kill random few", "'few' is no number", "kill random"),
            ("table", "takes other words", "help"),
            ("lookup a from", "too much", "from 3"),
            ("watch 3 4", "other words", "watch 20"),
        ] {
            let error = Order::read(line).unwrap_err();
            assert!(error.reason.contains(reason) && error.next.contains(next), "{line}: {error:?}");
        }
    }
}
