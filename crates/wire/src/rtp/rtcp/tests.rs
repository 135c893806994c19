use proptest::prelude::*;

use super::*;

const BLOCK: ReportBlock = ReportBlock {
    ssrc: 0x0a0a_0a0a,
    fraction_lost: 64,
    cumulative_lost: -2,
    highest_sequence: 0x0001_0005,
    jitter: 33,
    last_sr: 0x1111_2222,
    delay_since_last_sr: 0x8000,
};
const INFO: SenderInfo =
    SenderInfo { ssrc: 0x0b0b_0b0b, ntp: 0x8899_aabb_ccdd_eeff, timestamp: 160, packets: 2, octets: 320 };

fn compound() -> Vec<u8> {
    let mut out = Vec::new();
    write_sender_report(&INFO, &[BLOCK], &mut out);
    write_source_description(INFO.ssrc, "ann@host", &mut out);
    write_goodbye(INFO.ssrc, &mut out);
    out
}

#[test]
fn a_compound_has_its_golden_bytes() {
    let golden = "81c8000c 0b0b0b0b 8899aabbccddeeff 000000a0 00000002 00000140 \
         0a0a0a0a 40fffffe 00010005 00000021 11112222 00008000 \
         81ca0004 0b0b0b0b 0108616e 6e40686f 73740000 81cb0001 0b0b0b0b";
    let hex: String = compound().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, golden.replace([' ', '\n'], ""));
}

#[test]
fn a_compound_is_read_as_it_was_written() {
    let bytes = compound();
    let packets: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
    assert_eq!(packets.len(), 3);
    let Packet::SenderReport(info, blocks) = packets[0] else { panic!("{packets:?}") };
    assert_eq!(info, INFO);
    assert_eq!(blocks.iter().collect::<Vec<_>>(), [BLOCK]);
    assert_eq!(packets[1].cname(), Some((INFO.ssrc, &b"ann@host"[..])));
    assert_eq!(packets[2].leaving().collect::<Vec<_>>(), [INFO.ssrc]);
}

#[test]
fn compounds_that_contradict_themselves_are_refused() {
    let good = compound();
    for cut in 1..8 {
        assert!(Compound::parse(&good[..good.len() - cut]).is_err(), "{cut}");
    }
    let mut bytes = good.clone();
    bytes[0] = 0x82; // two blocks where there is one
    assert_eq!(Compound::parse(&bytes), Err(Error::Length));
    bytes[0] = 0xa1; // padding in a packet that is not the last
    assert_eq!(Compound::parse(&bytes), Err(Error::Length));
    bytes[0] = 0x41;
    assert_eq!(Compound::parse(&bytes), Err(Error::Version));
    assert_eq!(Compound::parse(&[]), Err(Error::Short));
}

#[test]
fn translation_changes_every_ssrc_and_nothing_else() {
    let mut bytes = compound();
    let translation = Translation {
        sender: 1,
        timestamp_offset: 40,
        subject: (BLOCK.ssrc, 2),
        sequence_offset: 10u32.wrapping_neg(),
    };
    translation.apply(&mut bytes).unwrap();
    let mut expected = Vec::new();
    let info = SenderInfo { ssrc: 1, timestamp: 200, ..INFO };
    let block = ReportBlock { ssrc: 2, highest_sequence: 0xfffb, ..BLOCK };
    write_sender_report(&info, &[block], &mut expected);
    write_source_description(1, "ann@host", &mut expected);
    write_goodbye(1, &mut expected);
    assert_eq!(bytes, expected);
}

#[test]
fn feedback_and_extended_reports_are_translated() {
    let t = Translation { sender: 1, subject: (7, 2), ..Default::default() };
    // A full intra request (RFC 5104 section 4.3.1) about source 7.
    let mut fir = [0x84, PSFB, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 5, 0, 0, 0];
    t.apply(&mut fir).unwrap();
    assert_eq!((fir[7], fir[15], fir[16]), (1, 2, 5));
    // A DLRR block (RFC 3611 section 4.5) with sub-blocks about 7 and about 8.
    let mut xr = vec![0x80, XR, 0, 8, 0, 0, 0, 9, 5, 0, 0, 6];
    xr.extend([0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 4]);
    t.apply(&mut xr).unwrap();
    assert_eq!((xr[7], xr[15], xr[27]), (1, 2, 8));
}

#[test]
fn padding_is_never_taken_for_an_ssrc() {
    let t = Translation { sender: 1, ..Default::default() };
    let mut bytes = [0xa0, APP, 0, 1, 0, 0, 0, 4];
    t.apply(&mut bytes).unwrap();
    assert_eq!(bytes[4..], [0, 0, 0, 4]);
    for wrong in [0, 3, 8, 12] {
        bytes[7] = wrong;
        assert_eq!(Compound::parse(&bytes), Err(Error::Length), "{wrong}");
    }
}

#[test]
fn goodbyes_can_be_taken_out() {
    let mut bytes = compound();
    let len = strip_goodbye(&mut bytes);
    assert_eq!(len, compound().len() - 8);
    assert_eq!(bytes[..len], compound()[..len]);
    let mut only = Vec::new();
    write_goodbye(3, &mut only);
    assert_eq!(strip_goodbye(&mut only), 0);
}

#[test]
fn ntp_counts_in_seconds_and_fractions() {
    assert_eq!(ntp(Time::from_millis(1_500)), ((NTP_UNIX + 1) << 32) | 0x8000_0000);
    let gap = ntp_middle(ntp(Time::from_secs(3))) - ntp_middle(ntp(Time::from_secs(1)));
    assert_eq!(gap, 2 << 16);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_walked_and_translated(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
        kind in 198u8..210, first in 0x80u8..0xc0, words in 0u8..30,
    ) {
        if bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&[first, kind, 0, words]);
            let cut = bytes.len().min((usize::from(words) + 1) * 4);
            bytes.truncate(cut);
        }
        let ok = Compound::parse(&bytes).is_ok();
        if let Ok(compound) = Compound::parse(&bytes) {
            for packet in compound.packets() {
                let _ = (packet.cname(), packet.leaving().count());
            }
        }
        let len = bytes.len();
        prop_assert_eq!(Translation::default().apply(&mut bytes).is_ok(), ok);
        prop_assert_eq!(bytes.len(), len);
        prop_assert_eq!(Compound::parse(&bytes).is_ok(), ok, "translation keeps it well-formed");
        prop_assert!(strip_goodbye(&mut bytes) <= len);
    }

    #[test]
    fn blocks_survive_the_wire(
        ssrc: u32, fraction_lost: u8, lost in -0x80_0000i32..0x80_0000, highest_sequence: u32,
        jitter: u32, last_sr: u32, delay: u32, cname in "[a-z]{0,40}",
    ) {
        let block = ReportBlock {
            ssrc, fraction_lost, cumulative_lost: lost, highest_sequence, jitter, last_sr,
            delay_since_last_sr: delay,
        };
        let mut bytes = Vec::new();
        write_receiver_report(9, &[block, BLOCK], &mut bytes);
        write_source_description(9, &cname, &mut bytes);
        let packets: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
        let Packet::ReceiverReport(9, blocks) = packets[0] else { panic!("{packets:?}") };
        prop_assert_eq!(blocks.iter().collect::<Vec<_>>(), [block, BLOCK]);
        prop_assert_eq!(packets[1].cname(), Some((9, cname.as_bytes())));
    }
}
