//! Collections that are decoded up to a number of entries: few bytes of JSON make many of a value's.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Streams of a node that a reader takes; a node is built for a third of it.
pub const MAX_ENTRIES: usize = 16 * 1024;
/// Streams of a cluster in one snapshot's index.
pub const MAX_INDEX_ENTRIES: usize = 64 * 1024;

fn too_many<E: Error>(limit: usize) -> E {
    E::custom(format_args!("more than {limit} entries"))
}

/// A JSON list of at most `limit` entries.
///
/// # Errors
/// Where it is not such a list, or longer: nothing behind the limit is decoded.
pub fn entries<T: DeserializeOwned>(
    json: &[u8],
    limit: usize,
) -> Result<Vec<T>, serde_json::Error> {
    struct Entries<T>(usize, PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {} entries", self.0)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(entry) = list.next_element()? {
                if all.len() == self.0 {
                    return Err(too_many(self.0));
                }
                all.push(entry);
            }
            Ok(all)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let all = reader.deserialize_seq(Entries(limit, PhantomData))?;
    reader.end()?;
    Ok(all)
}

/// A map of at most [`MAX_INDEX_ENTRIES`].
pub fn index<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    struct Index<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Index<T> {
        type Value = BTreeMap<String, T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a map of at most {MAX_INDEX_ENTRIES} entries")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((name, entry)) = map.next_entry()? {
                if all.len() == MAX_INDEX_ENTRIES {
                    return Err(too_many(MAX_INDEX_ENTRIES));
                }
                all.insert(name, entry);
            }
            Ok(all)
        }
    }
    from.deserialize_map(Index(PhantomData))
}
