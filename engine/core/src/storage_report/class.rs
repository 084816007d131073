//! The storage class of objects, as the bucket says it. The engine writes them without one; a rule of the bucket may move them later, and the
//! oldest first: the oldest and the newest are asked for. All of them would be a request for each thousand, or for each.

use super::{DatedObject, Usage};
use crate::error::with_causes;
use crate::objects::Tier2;

/// The class of these objects; `Ok(None)`: there are none. `Err` says why it is not known. Asks Tier 2 twice at most, and blocks.
pub fn class_of(tier2: &Tier2, usage: &Usage) -> Result<Option<String>, String> {
    let (Some(oldest), Some(newest)) = (&usage.oldest_object, &usage.newest_object) else {
        return Ok(None);
    };
    let of_oldest = ask(tier2, oldest)?;
    if oldest == newest {
        return Ok(Some(of_oldest));
    }
    let of_newest = ask(tier2, newest)?;
    if of_oldest != of_newest {
        return Err(format!(
            "the oldest object, {}, is {of_oldest} and the newest, {}, is {of_newest}; how many are of each is not measured",
            oldest.key, newest.key
        ));
    }
    Ok(Some(of_oldest))
}

fn ask(tier2: &Tier2, object: &DatedObject) -> Result<String, String> {
    let key = &object.key;
    match tier2.store().class(key) {
        Ok(Some(class)) => Ok(class),
        Ok(None) => Err(format!("{} names no storage class of {key}", tier2.place())),
        Err(error) => Err(with_causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::claims::suite as claims_suite;
    use crate::objects::memory::MemoryStore;
    use crate::objects::{ObjectStore, Upload};

    fn objects(keys: &[&str]) -> (Arc<MemoryStore>, Arc<Tier2>) {
        let memory = Arc::new(MemoryStore::new());
        for key in keys {
            let upload = Upload::of_bytes(Bytes::from_static(b"x"), "p".to_owned());
            memory.put(key, &upload).expect("put");
        }
        let objects: Arc<dyn ObjectStore> = memory.clone();
        let claims = claims_suite::claims_of(&objects, "p/", "orders-0");
        (memory, claims.tier2().clone())
    }

    fn usage(oldest: &str, newest: &str) -> Usage {
        let object = |key: &str| {
            Some(DatedObject {
                sealed_unix_nanos: 0,
                key: key.to_owned(),
            })
        };
        Usage {
            oldest_object: object(oldest),
            newest_object: object(newest),
            ..Usage::default()
        }
    }

    #[test]
    fn the_class_is_that_of_the_oldest_and_the_newest_where_they_agree() {
        let (memory, tier2) = objects(&["p/1", "p/2"]);
        assert_eq!(class_of(&tier2, &Usage::default()), Ok(None));
        let usage = usage("p/1", "p/2");
        let unnamed = class_of(&tier2, &usage).expect_err("no classes");
        assert!(
            unnamed.ends_with("names no storage class of p/1"),
            "{unnamed}"
        );
        memory.set_class("p/1", "STANDARD");
        memory.set_class("p/2", "STANDARD");
        assert_eq!(class_of(&tier2, &usage), Ok(Some("STANDARD".to_owned())));
        memory.set_class("p/1", "GLACIER");
        let differs = class_of(&tier2, &usage).expect_err("two");
        assert_eq!(
            differs,
            "the oldest object, p/1, is GLACIER and the newest, p/2, is STANDARD; how many are of each is not measured"
        );
    }

    #[test]
    fn a_bucket_that_does_not_answer_leaves_the_class_unknown() {
        let (memory, tier2) = objects(&["p/1"]);
        memory.set_class("p/1", "STANDARD");
        memory.set_unreachable(true);
        assert!(class_of(&tier2, &usage("p/1", "p/1")).is_err());
    }
}
