//! Sealed bytes: records, session frames, leg prefaces. What opens is what was sealed, in the order
//! in which it was.

use crypto::leg::{LegKey, PREFACE_BODY, PREFACE_CLEAR, PREFACE_SEALED};
use crypto::record::{
    ChainSecret, FrameOpener, FrameSealer, HEADER, INNER, Opener, Sealer, TAG, record_len,
};
use crypto::suite::Suite;
use proxy::limits::{FRAME_MAX, LANE_RECORD_MAX};

use crate::Target;

fn secret() -> ChainSecret {
    ChainSecret::from_bytes(&[7; 32])
}

/// The first byte says the suite; then records of a lane, one behind the other.
fn records(bytes: &[u8]) -> bool {
    let Some((&suite, mut rest)) = bytes.split_first() else {
        return false;
    };
    let Some(suite) = Suite::from_number(suite) else {
        return false;
    };
    let (mut opener, mut sealer) = (Opener::new(suite, secret()), Sealer::new(suite, secret()));
    let mut opened = false;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let Ok(length) = record_len(*header, LANE_RECORD_MAX) else {
            return false;
        };
        let Some((record, behind)) = rest.split_at_checked(length) else {
            return false;
        };
        let mut copy = record.to_vec();
        let Ok(plain) = opener.open(&mut copy).map(|plain| plain.to_vec()) else {
            let again = opener.open(&mut record.to_vec()).is_ok();
            assert!(!again, "a second guess at a tag");
            return false;
        };
        let mut again = [vec![0; HEADER], plain, vec![0; TAG]].concat();
        sealer.seal(&mut again).expect("its length was legal");
        assert_eq!(record, again, "a record that nobody sealed");
        (opened, rest) = (true, behind);
    }
    opened && rest.is_empty()
}

/// Records of a lane.
pub const RECORDS: Target = Target {
    name: "records",
    body: records,
    seeds: || {
        [(Suite::AesGcm, "aes"), (Suite::ChaChaPoly, "chacha")]
            .map(|(suite, name)| {
                let mut sealer = Sealer::new(suite, secret());
                let mut bytes = vec![suite.number()];
                for payload in [0, 1, 100] {
                    let mut record = vec![0x5a; HEADER + INNER + payload + TAG];
                    sealer.seal(&mut record).expect("the length is legal");
                    bytes.extend(record);
                }
                (name, bytes)
            })
            .to_vec()
    },
};

/// Frames of a session behind their lengths.
fn frames(mut rest: &[u8]) -> bool {
    let (mut opener, mut sealer) = (
        FrameOpener::new(Suite::AesGcm, secret()),
        FrameSealer::new(Suite::AesGcm, secret()),
    );
    let mut opened = false;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        if length > FRAME_MAX {
            return false;
        }
        let Some((frame, behind)) = behind.split_at_checked(length) else {
            return false;
        };
        let Ok(plain) = opener.open(frame) else {
            return false;
        };
        assert_eq!(
            frame,
            sealer.seal(&plain).expect("its length was legal"),
            "a frame that nobody sealed"
        );
        (opened, rest) = (true, behind);
    }
    opened && rest.is_empty()
}

/// Frames of a session.
pub const FRAMES: Target = Target {
    name: "frames",
    body: frames,
    seeds: || {
        let mut sealer = FrameSealer::new(Suite::AesGcm, secret());
        let mut bytes = Vec::new();
        for plain in [b"".as_slice(), b"one message", &[0x5a; 200]] {
            let frame = sealer.seal(plain).expect("the length is legal");
            let length = u16::try_from(frame.len()).expect("the length is legal");
            bytes.extend(length.to_be_bytes());
            bytes.extend(frame);
        }
        vec![("three", bytes)]
    },
};

/// The counter, the clear and the sealed part of a leg preface.
fn leg(bytes: &[u8]) -> bool {
    let key = LegKey::from_secret(&[7; 32]);
    let Some((counter, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    let Some((clear, rest)) = rest.split_first_chunk::<PREFACE_CLEAR>() else {
        return false;
    };
    let Ok(sealed) = <&[u8; PREFACE_SEALED]>::try_from(rest) else {
        return false;
    };
    let counter = u64::from_be_bytes(*counter);
    let Ok(body) = key.open_preface(counter, clear, sealed) else {
        return false;
    };
    assert_eq!(
        key.seal_preface(counter, clear, &body),
        *sealed,
        "a preface that nobody sealed"
    );
    true
}

/// A leg preface.
pub const LEG: Target = Target {
    name: "leg",
    body: leg,
    seeds: || {
        let (clear, body) = ([1; PREFACE_CLEAR], [2; PREFACE_BODY]);
        let sealed = LegKey::from_secret(&[7; 32]).seal_preface(5, &clear, &body);
        vec![(
            "fifth",
            [&5_u64.to_be_bytes(), clear.as_slice(), sealed.as_slice()].concat(),
        )]
    },
};
