//! Whatever is sent and whatever is asked, in any order, over any network.

use super::*;
use proptest::prelude::*;

/// One thing that the driver of a phone, or the weather, may do.
#[derive(Clone, Debug)]
enum Step {
    Invite(bool),
    Ring(usize),
    Answer(usize),
    Reject(usize),
    HangUp(usize),
    Hold(usize, bool),
    Message,
    Info(usize),
    Refer(usize),
    Progress(usize, u16),
    Wait(u64),
    Loss(u32),
    Noise(Vec<u8>),
    /// One datagram in flight, damaged at a place.
    Damage(usize, u8),
    Repeat,
    Manual(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(Step::Invite),
        (0..4usize).prop_map(Step::Ring),
        (0..4usize).prop_map(Step::Answer),
        (0..4usize).prop_map(Step::Reject),
        (0..4usize).prop_map(Step::HangUp),
        (0..4usize, any::<bool>()).prop_map(|(n, held)| Step::Hold(n, held)),
        Just(Step::Message),
        (0..4usize).prop_map(Step::Info),
        (0..4usize).prop_map(Step::Refer),
        (0..4usize, 100..700u16).prop_map(|(n, status)| Step::Progress(n, status)),
        (0..6_000u64).prop_map(Step::Wait),
        (0..100u32).prop_map(Step::Loss),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(Step::Noise),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Step::Damage(at, byte)),
        Just(Step::Repeat),
        any::<bool>().prop_map(Step::Manual),
    ]
}

fn take(pipe: &mut Pipe, who: usize, step: Step) {
    let now = pipe.now;
    let handle = |pipe: &Pipe, n: usize| pipe.uas[who].calls.keys().nth(n).copied().unwrap_or(Handle(0));
    match step {
        Step::Invite(late) => {
            let offer = (!late).then(|| sound(who));
            pipe.uas[who].invite(now, "somebody", offer);
        }
        Step::Ring(n) => {
            let h = handle(pipe, n);
            pipe.uas[who].ring(now, h);
        }
        Step::Answer(n) => {
            let h = handle(pipe, n);
            pipe.uas[who].answer(now, h, sound(who));
        }
        Step::Reject(n) => {
            let h = handle(pipe, n);
            pipe.uas[who].reject(now, h, 486, "");
        }
        Step::HangUp(n) => {
            let h = handle(pipe, n);
            pipe.uas[who].hang_up(now, h);
        }
        Step::Hold(n, held) => {
            let h = handle(pipe, n);
            pipe.uas[who].hold(now, h, held);
        }
        Step::Message => {
            pipe.uas[who].message(now, "somebody", "text/plain", b"hello");
        }
        Step::Info(n) => {
            let h = handle(pipe, n);
            pipe.uas[who].press(now, h, '1');
        }
        Step::Refer(n) => {
            let h = handle(pipe, n);
            let to = pipe.uas[who].replacement(h).unwrap_or_else(|| "carol".into());
            pipe.uas[who].refer(now, h, &to);
        }
        Step::Progress(n, status) => {
            let h = handle(pipe, n);
            pipe.uas[who].refer_progress(now, h, status, "");
        }
        Step::Wait(millis) => pipe.run_ms(millis),
        Step::Loss(loss) => pipe.loss = loss,
        Step::Noise(bytes) => pipe.flying.push((now, who, bytes)),
        Step::Damage(at, byte) => {
            pipe.collect();
            if let Some((_, _, bytes)) = pipe.flying.last_mut() {
                let at = at % bytes.len().max(1);
                if let Some(b) = bytes.get_mut(at) {
                    *b = byte;
                }
            }
        }
        Step::Repeat => {
            pipe.collect();
            pipe.flying.extend(pipe.flying.last().cloned());
        }
        Step::Manual(manual) => {
            pipe.uas[who].set_manual_reoffers(manual);
            pipe.uas[who].set_manual_messages(manual);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut pipe = Pipe::new(1);
        pipe.uas[A].handle_message(pipe.now, Flow::Udp(address(B)), &bytes);
        pipe.run_ms(1_000);
    }

    /// Timers advance at every step (`Pipe::run` asserts it), and once both have hung up every call
    /// nothing is left, however the network treated them.
    #[test]
    fn any_sequence_of_commands_and_weather_ends_with_nothing_left(
        seed in any::<u32>(),
        steps in prop::collection::vec((0..2usize, step()), 1..60),
    ) {
        let mut pipe = Pipe::new(u64::from(seed));
        for (who, step) in steps {
            take(&mut pipe, who, step);
        }
        pipe.loss = 0;
        pipe.run_ms(40_000);
        for who in [A, B] {
            let handles: Vec<Handle> = pipe.uas[who].calls.keys().copied().collect();
            for handle in handles {
                pipe.uas[who].hang_up(pipe.now, handle);
            }
        }
        pipe.run_ms(40_000);
        pipe.assert_empty();
    }
}
