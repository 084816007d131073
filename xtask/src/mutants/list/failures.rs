//! A disk that fails and a thread that is missing: told once, and nothing is acknowledged or synced after.

use super::{Mutant, tests, units};

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a failed paced write-out is swallowed",
        file: "engine/core/src/io/watched.rs",
        find: "self.call(\"write out\", |file| file.pace(offset, length))",
        replace: "self.inner().pace(offset, length).or(Ok(()))",
        noticed_by: &[tests("aof2-core", "faults", "a_failed_paced_write_out")],
    },
    Mutant {
        name: "a failed sync of a directory is swallowed",
        file: "engine/core/src/io/watched.rs",
        find: "            reported(&*self.failures, \"sync\", path, error)\n        })",
        replace: "            error\n        })",
        noticed_by: &[tests("aof2-core", "faults", "a_failed_sync_of_a_directory")],
    },
    Mutant {
        name: "a failed close is swallowed",
        file: "engine/core/src/io/watched.rs",
        find: "self.failures.note(\"close\", &path, &error);",
        replace: "drop((path, error));",
        noticed_by: &[tests("aof2-core", "faults", "a_failed_close_of")],
    },
    Mutant {
        name: "a failed sync is tried again",
        file: "engine/core/src/io/watched.rs",
        find: "self.sync(|file| file.sync_data())",
        replace: "self.sync(|file| file.sync_data().or_else(|_| file.sync_data()))",
        noticed_by: &[tests("aof2-core", "faults", "whatever_the_file_and")],
    },
    Mutant {
        name: "files are synced after a sync failed",
        file: "engine/core/src/io/watched.rs",
        find: "refuse_after_failure(&*self.failures)?;\n        let _call",
        replace: "let _call",
        noticed_by: &[units("aof2-core", "io::watched")],
    },
    Mutant {
        name: "directories are synced after a sync failed",
        file: "engine/core/src/io/watched.rs",
        find: "        refuse_after_failure(&*self.failures)?;\n        self.inner.sync_directory",
        replace: "        self.inner.sync_directory",
        noticed_by: &[units("aof2-core", "io::watched")],
    },
    Mutant {
        name: "a file is closed with writes that nobody synced",
        file: "engine/core/src/io/resting.rs",
        find: "open.sync_all()?;",
        replace: "",
        noticed_by: &[units("aof2-core", "io::resting")],
    },
    Mutant {
        name: "a machine without descriptors counts as a broken disk",
        file: "engine/core/src/io/errno.rs",
        find: "libc::EMFILE | libc::ENFILE => Some(Lack::Descriptors),",
        replace: "",
        noticed_by: &[units("aof2-core", "io::resting")],
    },
    Mutant {
        name: "a sync does not wait for calls beside it",
        file: "engine/core/src/io/watched.rs",
        find: "self.calls.wait_for_begun();",
        replace: "",
        noticed_by: &[units("aof2-core", "io::watched")],
    },
    Mutant {
        name: "a sync that lacks space passes for a refusal",
        file: "engine/core/src/io/watched.rs",
        find: "io::Error::new(error.kind(), error)",
        replace: "error",
        noticed_by: &[units("aof2-core", "io::watched")],
    },
    Mutant {
        name: "watermarks are published after a failure",
        file: "engine/core/src/poison.rs",
        find: "            .is_none()\n            .then_some(",
        replace: "            .as_deref()\n            .is_none_or(|_| true)\n            .then_some(",
        noticed_by: &[units("aof2-core", "poison::")],
    },
    Mutant {
        name: "a thread that panics is not missed",
        file: "engine/core/src/threads.rs",
        find: "poison.set_message(format!(\"thread {told} panicked: {}\", message_of(&*panic)));",
        replace: "drop((&poison, format!(\"{told} {}\", message_of(&*panic))));",
        noticed_by: &[tests("aof2-core", "faults", "a_panic_in_any_other_thread")],
    },
    Mutant {
        name: "a round of the journal that panics is not told",
        file: "engine/core/src/journal/writer.rs",
        find: ".set_message(format!(\"journal round panicked: {message}\"));",
        replace: ".on_set(Box::new(move |_| drop(message)));",
        noticed_by: &[tests("aof2-core", "faults", "a_panic_in_a_round")],
    },
];
