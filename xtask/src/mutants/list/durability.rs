//! Files and directories are durable before anything relies on them.

use super::{Mutant, Selection, tests, units};

const STATES: &[Selection] = &[tests("aof2-core", "states", "every_state")];
const REPLACED: &[Selection] = &[units("aof2-core", "keeps_its_old_content")];
const METADATA: &[Selection] = &[tests("aof2-core", "metadata", "after_a_kill")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the directory of streams is not synced",
        file: "engine/core/src/store/opener.rs",
        find: "            .common\n            .env\n            .disk\n            .sync_directory(&streams)",
        replace: "            .common\n            .env\n            .disk\n            .exists(&streams)",
        noticed_by: STATES,
    },
    Mutant {
        name: "a new stream's directory is not synced",
        file: "engine/core/src/store/opener.rs",
        find: "disk.sync_directory(&stream.directory)",
        replace: "disk.exists(&stream.directory)",
        noticed_by: STATES,
    },
    Mutant {
        name: "a new file of segments, manifests or the journal is used before its name is on the device",
        file: "engine/core/src/io/mod.rs",
        find: "disk.sync_directory(directory)",
        replace: "disk.exists(directory)",
        noticed_by: STATES,
    },
    Mutant {
        name: "a small file is renamed before it is synced",
        file: "engine/core/src/io/mod.rs",
        find: "file.sync_all().map_err(at(\"sync\"))?;\n        disk.rename(&temporary, path).map_err(at(\"rename\"))",
        replace: "disk.rename(&temporary, path).map_err(at(\"rename\"))?;\n        file.sync_all().map_err(at(\"sync\"))",
        noticed_by: REPLACED,
    },
    Mutant {
        name: "a small file is removed before the new one has its name",
        file: "engine/core/src/io/mod.rs",
        find: "disk.rename(&temporary, path).map_err(at(\"rename\"))",
        replace: "if disk.exists(path).map_err(at(\"look for\"))? {\n            disk.unlink(path).map_err(at(\"remove\"))?;\n        }\n        disk.rename(&temporary, path).map_err(at(\"rename\"))",
        noticed_by: REPLACED,
    },
    Mutant {
        name: "journal files are used again before their segments are synced",
        file: "engine/core/src/store/checkpoint.rs",
        find: "self.settle_streams(pipeline, streams)\n    }",
        replace: "Ok(())\n    }",
        noticed_by: STATES,
    },
    Mutant {
        name: "journal files are used again before their manifests are synced",
        file: "engine/core/src/manifest/mod.rs",
        find: "file.sync_data().map_err(at(\"sync\", file))?;",
        replace: "let _ = file;",
        noticed_by: STATES,
    },
    Mutant {
        name: "what left memory during a sync counts as synced",
        file: "engine/core/src/stream/write_out.rs",
        find: "        let is_written = self.staged.lock().left >= position;\n        self.sync_segments()?;",
        replace: "        self.sync_segments()?;\n        let is_written = self.staged.lock().left >= position;",
        noticed_by: &[tests("aof2-core", "states", "a_record_that_leaves_memory")],
    },
    Mutant {
        name: "the middle of a batch counts as written",
        file: "engine/core/src/segment/active.rs",
        find: "            at += part.len() as u64;",
        replace: "            at += part.len() as u64;\n            self.written.store(at, Ordering::Release);",
        noticed_by: &[units("aof2-core", "segment::active")],
    },
    Mutant {
        name: "a seal is committed before it is synced",
        file: "engine/core/src/store/seal.rs",
        find: "segment.file.sync_all().map_err(at(\"sync\"))?;",
        replace: "",
        noticed_by: STATES,
    },
    Mutant {
        name: "what is recovered is served before it is synced",
        file: "engine/core/src/recovery/mod.rs",
        find: "    sync_all(&recovered)?;",
        replace: "",
        noticed_by: STATES,
    },
    Mutant {
        name: "a new stream is not written to the catalog",
        file: "engine/core/src/store/opener.rs",
        find: "self.catalog.add(header)",
        replace: "Ok(())",
        noticed_by: METADATA,
    },
    Mutant {
        name: "the catalog is not read",
        file: "engine/core/src/recovery/streams.rs",
        find: ".map(|header| (header.stream.as_str(), header))",
        replace: ".filter(|_| false)\n        .map(|header| (header.stream.as_str(), header))",
        noticed_by: METADATA,
    },
];
