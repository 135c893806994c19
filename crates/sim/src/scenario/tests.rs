//! Scenarios are read as they are meant, and mistakes are pointed at.

use super::*;

#[test]
fn an_empty_file_is_a_scenario() {
    let scenario: Scenario = "".parse().unwrap();
    assert_eq!((scenario.nodes, scenario.seed), (100, 1));
}

#[test]
fn everything_can_be_said() {
    let text = r#"
        name = "all"
        nodes = 10
        [latency]
        model = "matrix-king"
        median_ms = 20
        [churn]
        law = "weibull"
        mean_s = 600
        [nat]
        symmetric = 0.2
        [[events]]
        at_s = 60
        kill = 0.25
        [[events]]
        clock_skew = -500
        peers = 0.5
        among = "clients"
        [[calls]]
        at_s = 30
        from = 2
        to = 3
        [bars]
        lookups = 0.99
    "#;
    let scenario: Scenario = text.parse().unwrap();
    assert_eq!(scenario.events[0].kill, Some(0.25));
    assert_eq!(
        scenario.events[1].kinds().map(|(k, n)| (k.name, n)).collect::<Vec<_>>(),
        [("clock_skew", -500.0)]
    );
    assert_eq!(scenario.latency.model, Model::MatrixKing);
    assert_eq!(scenario.churn.unwrap().law, Law::Weibull);
    assert_eq!(scenario.calls[0].duration_s, 10.0);
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    for (text, place, word) in [
        ("nodez = 3", "line 1, column 1", "nodez"),
        ("seed = 4\nnodes = 0", "line 2, column 9", "nodes"),
        ("loss = 1.5", "line 1, column 8", "loss"),
        ("loss = nan", "line 1, column 8", "loss"),
        ("\n\noverlay = 'pigeon'", "line 3, column 11", "kademlia"),
        ("hash = 'crc'", "line 1, column 8", "sha-256"),
        ("base = 3", "line 1, column 8", "base"),
        ("nodes = 3\n[[calls]]\nat_s = 1\nfrom = 1\nto = 7", "line 5, column 6", "calls[0].to"),
        ("[[events]]\nkill = 1\n[[events]]\nat_s = 3\nloss = 2", "line 5, column 8", "events[1].loss"),
        ("[[events]]\nat_s = 3", "line 1, column 1", "nothing happens"),
        ("[[events]]\nkil = 0.5", "line 2, column 1", "kil"),
        ("[churn]\nlaw = 'poisson'", "line 2, column 7", "exponential"),
        ("[churn]\nlaw = 'trace'", "line 1, column 1", "file"),
        ("nat = { full_cone = 0.7, symmetric = 0.7 }", "line 1, column 7", "more than 1"),
        ("[[attackers]]\nkind = 'liar'", "line 1, column 1", "nobody attacks"),
        ("nodes = 3 3", "line 1, column 9", ""),
    ] {
        let error = text.parse::<Scenario>().unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(place), "{text}: {error}");
    }
}

#[test]
fn the_memory_of_a_run_is_told_beforehand() {
    let estimate = |text: &str| text.parse::<Scenario>().unwrap().memory_estimate();
    assert!(estimate("nodes = 100000") > 90 * estimate("nodes = 1"));
    assert!(estimate("nodes = 10\n[[events]]\njoin = 5000") > estimate("nodes = 4000"));
    // Ten million peers that are derived and not kept fit a small machine.
    let ten_million = estimate(include_str!("../../../../scenarios/ten-million.toml"));
    assert!((250 << 20..600 << 20).contains(&ten_million), "{ten_million}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}") {
        let _ = text.parse::<Scenario>();
    }
}
