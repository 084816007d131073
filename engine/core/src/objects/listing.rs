//! A listing by which something is decided: every page of it came, in byte order, and the last one says that it is the last.
//!
//! A store that gives keys in another order, gives one twice, or ends a listing in the middle has shown nobody knows what.

use thiserror::Error;

use super::{Listed, ListedPage, ObjectError, ObjectStore};

#[derive(Debug, Error)]
pub enum ListingError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(
        "the listing of {prefix:?} at {place} names {key:?} behind {before:?}; use an object store that lists keys in byte order"
    )]
    OutOfOrder {
        prefix: String,
        place: String,
        key: String,
        before: String,
    },
    #[error("the listing of {prefix:?} at {place} names {key:?}, which does not begin so")]
    Foreign {
        prefix: String,
        place: String,
        key: String,
    },
    #[error(
        "the listing of {prefix:?} at {place} is cut short: a page without a key is not the last"
    )]
    CutShort { prefix: String, place: String },
}

/// Gives each page to `take` once it is known to continue the one before. `Ok(false)`: `take` wanted no more.
pub fn walk<E: From<ListingError>>(
    store: &dyn ObjectStore,
    prefix: &str,
    mut take: impl FnMut(Vec<Listed>) -> Result<bool, E>,
) -> Result<bool, E> {
    let mut last: Option<String> = None;
    loop {
        let ListedPage { objects, is_last } = store
            .list_objects(prefix, last.as_deref())
            .map_err(ListingError::from)?;
        check(store, prefix, last.as_deref(), &objects)?;
        match objects.last() {
            Some(object) => last = Some(object.key.clone()),
            None if is_last => {}
            None => {
                let (prefix, place) = (prefix.to_owned(), store.place());
                return Err(ListingError::CutShort { prefix, place }.into());
            }
        }
        if !take(objects)? {
            return Ok(false);
        }
        if is_last {
            return Ok(true);
        }
    }
}

fn check(
    store: &dyn ObjectStore,
    prefix: &str,
    last: Option<&str>,
    objects: &[Listed],
) -> Result<(), ListingError> {
    let mut before = last;
    for Listed { key, .. } in objects {
        if !key.starts_with(prefix) {
            return Err(ListingError::Foreign {
                prefix: prefix.to_owned(),
                place: store.place(),
                key: key.clone(),
            });
        }
        if let Some(before) = before.filter(|before| *before >= key.as_str()) {
            return Err(ListingError::OutOfOrder {
                prefix: prefix.to_owned(),
                place: store.place(),
                key: key.clone(),
                before: before.to_owned(),
            });
        }
        before = Some(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::objects::Upload;
    use crate::objects::memory::{Fault, MemoryStore, Verb};

    fn bucket(objects: usize) -> MemoryStore {
        let memory = MemoryStore::new();
        for number in 0..objects {
            let upload = Upload::of_bytes(Bytes::from_static(b"x"), "put".into());
            memory.put(&format!("p/{number:06}"), &upload).expect("put");
        }
        memory
    }

    fn walked(memory: &MemoryStore) -> Result<usize, ListingError> {
        let mut count = 0;
        let whole = walk(memory, "p/", |page| {
            count += page.len();
            Ok::<_, ListingError>(true)
        });
        whole.map(|whole| {
            assert!(whole);
            count
        })
    }

    #[test]
    fn every_page_is_walked_and_an_empty_folder_has_one() {
        assert_eq!(walked(&bucket(0)).expect("listed"), 0);
        let memory = bucket(2_500);
        assert_eq!(walked(&memory).expect("listed"), 2_500);
        assert_eq!(memory.calls(Verb::List), 3);
        let mut pages = 0;
        let whole = walk(&memory, "p/", |_| {
            pages += 1;
            Ok::<_, ListingError>(false)
        });
        assert_eq!((whole.expect("listed"), pages), (false, 1));
    }

    #[test]
    fn a_listing_that_fails_or_is_out_of_order_or_cut_short_is_none() {
        let memory = bucket(2_500);
        memory.inject(Verb::List, Fault::PreconditionFailed, 1);
        let turned = walked(&memory).expect_err("turned around");
        assert_eq!(
            turned.to_string(),
            "the listing of \"p/\" at memory names \"p/000998\" behind \"p/000999\"; use an object store that lists keys in byte order"
        );
        memory.inject(Verb::List, Fault::Ignored, 1);
        let cut = walked(&memory).expect_err("cut short").to_string();
        assert!(cut.contains("is cut short"), "{cut}");
        memory.inject(Verb::List, Fault::ServerError, 1);
        walked(&memory).expect_err("failed");
        assert_eq!(walked(&memory).expect("listed"), 2_500);
    }
}
