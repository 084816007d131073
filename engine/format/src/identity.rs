//! Who is who. 128-bit identities are UUIDs (bytes in RFC order), drawn once and stored; a stream's number is local to its volume.

use std::fmt;
use std::str::FromStr;

use crate::damage::Damage;

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = Damage;

            fn from_str(text: &str) -> Result<Self, Damage> {
                parse_uuid($what, text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identity!(
    /// Identity of an `Aof2Cluster`, made by the operator; marks a Tier 2 prefix and every file.
    ClusterId,
    "cluster id"
);
identity!(
    /// Identity of a node (one pod's engine), stored on its volume at the first start.
    NodeId,
    "node id"
);
identity!(
    /// Identity of a volume, stored on it at the first start.
    VolumeId,
    "volume id"
);
identity!(
    /// Identity of a stream, drawn when it is created. A name may be used again after a deletion, this never.
    StreamUuid,
    "stream uuid"
);

/// Number of a stream on its volume: short, for the journal's frames. Never reused on a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamNumber(pub u64);

impl fmt::Display for StreamNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn parse_uuid(what: &'static str, text: &str) -> Result<[u8; 16], Damage> {
    let problem = || Damage::Text {
        what,
        problem: format!("{text:?} is not a UUID (8-4-4-4-12 hexadecimal digits)"),
    };
    let raw = text.as_bytes();
    if raw.len() != 36 {
        return Err(problem());
    }
    let mut bytes = [0u8; 16];
    let mut digits = 0;
    for (index, &character) in raw.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if character != b'-' {
                return Err(problem());
            }
            continue;
        }
        let digit = (character as char).to_digit(16).ok_or_else(problem)? as u8;
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_it_prints() {
        let text = "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
        let id: ClusterId = text.parse().unwrap();
        assert_eq!(id.0[..3], [0x01, 0x92, 0xf0]);
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn a_malformed_uuid_is_refused_with_its_text() {
        for text in [
            "",
            "0192f0aa1c2d7e3f8a4b5c6d7e8f9a0b",
            "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0g",
            "ä192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0",
        ] {
            let refusal = text.parse::<NodeId>().unwrap_err().to_string();
            assert!(
                refusal.contains("node id") && refusal.contains("is not a UUID"),
                "{refusal}"
            );
        }
    }
}
