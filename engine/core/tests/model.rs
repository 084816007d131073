//! Random operations against a vector.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod common;

use std::collections::BTreeMap;

use aof2_core::{Durability, Store};
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        stream: u8,
        sizes: Vec<u16>,
        is_durable: bool,
    },
    Bulk {
        stream: u8,
    },
    Read {
        stream: u8,
        from: u16,
    },
    Seal {
        stream: u8,
    },
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..3u8;
    prop_oneof![
        10 => (stream.clone(), prop::collection::vec(0..3_000u16, 1..5), any::<bool>())
            .prop_map(|(stream, sizes, is_durable)| Step::Append { stream, sizes, is_durable }),
        2 => stream.clone().prop_map(|stream| Step::Bulk { stream }),
        4 => (stream.clone(), any::<u16>()).prop_map(|(stream, from)| Step::Read { stream, from }),
        1 => stream.prop_map(|stream| Step::Seal { stream }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

fn append(
    store: &Store,
    model: &mut BTreeMap<String, Vec<Vec<u8>>>,
    stream: u8,
    batch: Vec<Vec<u8>>,
    durability: Durability,
) {
    let name = format!("s{stream}");
    let held = model.entry(name.clone()).or_default();
    let slices: Vec<&[u8]> = batch.iter().map(|payload| &payload[..]).collect();
    let appended = store.append(request(&name, &slices, durability)).unwrap();
    assert_eq!(appended.first_sequence, held.len() as u64);
    held.extend(batch);
    if durability == Durability::Durable {
        assert_eq!(
            store.describe(&name).unwrap().durable_sequence,
            held.len() as u64
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_a_vector_per_stream(steps in prop::collection::vec(step(), 1..60)) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        let mut model: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { stream, sizes, is_durable } => {
                    let batch = sizes.iter().map(|size| vec![number as u8; *size as usize]).collect();
                    let durability = if is_durable { Durability::Durable } else { Durability::Buffered };
                    append(&store, &mut model, stream, batch, durability);
                }
                Step::Bulk { stream } => {
                    append(&store, &mut model, stream, vec![vec![number as u8; 400_000]], Durability::Durable);
                }
                Step::Read { stream, from } => {
                    let name = format!("s{stream}");
                    if let Some(held) = model.get(&name) {
                        let from = from as usize % (held.len() + 1);
                        prop_assert!(payloads(&read_from(&store, &name, from as u64, true)) == held[from..], "{name} from {from}");
                    }
                }
                Step::Seal { stream } => {
                    let name = format!("s{stream}");
                    if let Some(held) = model.get(&name) {
                        prop_assert_eq!(store.seal(Some(&name)).unwrap()[&name], held.len() as u64);
                    }
                }
                Step::Flush => {
                    for (name, durable) in store.flush().unwrap() {
                        prop_assert_eq!(durable, model[&name].len() as u64);
                    }
                }
                Step::Reopen => {
                    store.close().unwrap();
                    drop(store);
                    store = open(directory.path());
                }
            }
        }
        for (name, held) in &model {
            prop_assert!(&payloads(&read_from(&store, name, 0, true)) == held, "{name} before the end");
        }
        store.close().unwrap();
        drop(store);
        let store = open(directory.path());
        for (name, held) in &model {
            prop_assert!(&payloads(&read_all(&store, name)) == held, "{name} after it");
        }
    }
}
