//! The command line: what can be typed, and the exit code it comes to.
//!
//! | file | commands |
//! |---|---|
//! | `peer.rs` | `up`, `bootstrap`, `down`, `status`, `version` |
//! | `authority.rs` | `authority` |
//! | `people.rs` | `phone`, `number`, `call`, `calls`, `msg`, `inbox`, `pins`, `ping` |
//! | `identity.rs` | `identity` |
//! | `overlay.rs` | `lookup`, `overlay`, `probe`; `document.rs` what `overlay` does with documents and tickets |
//! | `config.rs` | `config` |
//! | `operate.rs` | `log`, `operator` |
//! | `laboratory.rs` | `demo`, `lab`; `lesson.rs` the one that is typed into |
//! | `simulate.rs` | `sim` |
//! | `console.rs` | `console` |
//!
//! `answer.rs` asks the running peer and shows its answer. With `--json` every command prints one
//! object with a `schema` on standard output, failures included; all talk goes to standard error.

mod answer;
mod authority;
mod config;
mod console;
mod document;
mod identity;
mod laboratory;
mod lesson;
mod operate;
mod overlay;
mod peer;
mod people;
mod simulate;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use openvoip::control::{self, exit};

use answer::Context;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 peer not running, 4 not found, 5 timeout or \
unreachable, 6 declined, busy or no answer, 7 a required condition unmet, 8 bad configuration.";

/// Phone calls and messages by name, from any SIP phone, with no server in the middle.
#[derive(Parser)]
#[command(name = "openvoip", version, after_help = EXIT_CODES)]
struct Cli {
    /// Directory of the peer: identity, state and control socket [default: the user's data directory].
    #[arg(long, global = true, value_name = "DIR", env = "OPENVOIP_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Print the answer as one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// How long to wait for an answer, in seconds; a call may last its --duration on top of it.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Without a command: the status of the peer.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Demo(laboratory::Demo),
    Up(Box<peer::Up>),
    Bootstrap(Box<peer::Bootstrap>),
    Authority(Box<authority::Authority>),
    /// Stop the peer: it says goodbye, hands its records over, and ends.
    Down,
    /// How the peer is: overlay, users, phones, tables, traffic, health.
    Status,
    #[command(subcommand)]
    Phone(people::Phone),
    Number(people::Number),
    #[command(subcommand)]
    Identity(identity::Identity),
    Lookup(overlay::Lookup),
    #[command(subcommand)]
    Overlay(overlay::Overlay),
    Msg(people::Msg),
    /// Messages received, oldest first.
    Inbox,
    Call(people::Call),
    /// Calls under way and the latest that ended, oldest first.
    Calls,
    #[command(subcommand)]
    Pins(people::Pins),
    Ping(people::Ping),
    Probe(overlay::Probe),
    /// Read the commands of 2008 from standard input: showrt, shownt, showro, showcp, insert,
    /// rlookup, ulookup, getrt, getnt, getro, set, unset, ...
    Console,
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Log(operate::Log),
    #[command(subcommand)]
    Operator(operate::Operator),
    Lab(laboratory::Lab),
    Sim(Box<simulate::Sim>),
    Version(peer::Version),
}

/// Carries out what was typed; returns the exit code.
pub(crate) fn main() -> i32 {
    match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => misuse(&error),
    }
}

fn run(cli: Cli) -> i32 {
    let data_dir = cli.data_dir.unwrap_or_else(default_data_dir);
    let context = Context { data_dir, json: cli.json, timeout: cli.timeout };
    match cli.command {
        None | Some(Command::Status) => context.simple("status"),
        Some(Command::Demo(demo)) => demo.run(&context),
        Some(Command::Up(up)) => up.run(&context),
        Some(Command::Bootstrap(bootstrap)) => bootstrap.run(&context),
        Some(Command::Authority(authority)) => authority.run(&context),
        Some(Command::Down) => peer::down(&context),
        Some(Command::Phone(phone)) => phone.run(&context),
        Some(Command::Number(number)) => number.run(&context),
        Some(Command::Identity(identity)) => identity.run(&context),
        Some(Command::Lookup(lookup)) => lookup.run(&context),
        Some(Command::Overlay(overlay)) => overlay.run(&context),
        Some(Command::Msg(msg)) => msg.run(&context),
        Some(Command::Inbox) => context.simple("inbox"),
        Some(Command::Call(call)) => call.run(&context),
        Some(Command::Calls) => context.simple("calls"),
        Some(Command::Pins(pins)) => pins.run(&context),
        Some(Command::Ping(ping)) => ping.run(&context),
        Some(Command::Probe(probe)) => probe.run(&context),
        Some(Command::Console) => console::run(&context),
        Some(Command::Config(config)) => config.run(&context),
        Some(Command::Log(log)) => log.run(&context),
        Some(Command::Operator(operator)) => operator.run(&context),
        Some(Command::Lab(lab)) => lab.run(&context),
        Some(Command::Sim(sim)) => sim.run(&context),
        Some(Command::Version(version)) => version.run(&context),
    }
}

/// What was typed makes no sense, or asks for help; a program that wants JSON gets that.
fn misuse(error: &clap::Error) -> i32 {
    let _ = error.print();
    if error.use_stderr() && std::env::args_os().any(|a| a == "--json") {
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let answer = control::failure(exit::USAGE, reason, "openvoip --help");
        return answer::print_json(answer);
    }
    error.exit_code()
}

fn default_data_dir() -> PathBuf {
    directories::ProjectDirs::from("org", "openvoip", "openvoip")
        .map_or_else(|| PathBuf::from("openvoip-data"), |dirs| dirs.data_dir().to_owned())
}

/// A number of seconds that a person may ask for: up to a day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, from 0 to 86400".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_and_option_says_what_it_is() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} is not explained");
            for argument in command.get_arguments().filter(|a| a.get_id() != "help") {
                assert!(argument.get_help().is_some(), "{name}: {} is not explained", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        let command = Cli::command();
        command.clone().debug_assert();
        check(&command);
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["openvoip --data-dir D --json status", "openvoip status --data-dir D --json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.json && cli.data_dir == Some("D".into()), "{line}");
        }
    }

    #[test]
    fn seconds_are_finite_and_not_negative() {
        assert_eq!(seconds("1.5"), Ok(1.5));
        for bad in ["-1", "nan", "inf", "1e9", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
