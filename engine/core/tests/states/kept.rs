//! A state that failed, as a folder: its files, and what must hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::content::Content;
use crate::dice::Dice;
use crate::disk::Faults;
use crate::explore::{Failure, recover};
use crate::model::Model;
use crate::recording::{Image, Inode, Node, ROOT_INODE};

const FILES: &str = "files";
const MODEL: &str = "model.txt";
const WHAT: &str = "what.txt";

pub fn keep(failure: &Failure) -> PathBuf {
    let name = format!("state-{:016x}", failure.image.digest());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    write(&failure.image, ROOT_INODE, &folder.join(FILES));
    std::fs::write(folder.join(MODEL), failure.model.to_text()).expect("written");
    std::fs::write(folder.join(WHAT), &failure.what).expect("written");
    folder
}

fn write(image: &Image, inode: Inode, path: &Path) {
    match &image.nodes[inode] {
        Node::Directory(entries) => {
            std::fs::create_dir_all(path).expect("created");
            for (name, inode) in entries {
                write(image, *inode, &path.join(name));
            }
        }
        Node::File(content) => {
            let mut bytes = vec![0; content.length() as usize];
            content.read(&mut bytes, 0);
            std::fs::write(path, bytes).expect("written");
        }
    }
}

fn read(image: &mut Image, path: &Path) -> Inode {
    let inode = image.nodes.len();
    if path.is_dir() {
        image.nodes.push(Node::Directory(BTreeMap::new()));
        let mut entries = BTreeMap::new();
        for entry in std::fs::read_dir(path).expect("listed") {
            let entry = entry.expect("listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.insert(name, read(image, &entry.path()));
        }
        image.nodes[inode] = Node::Directory(entries);
    } else {
        let mut content = Content::default();
        content.write(&std::fs::read(path).expect("read"), 0);
        image.nodes.push(Node::File(content));
    }
    inode
}

pub fn open(folder: &Path) -> Result<(), String> {
    let mut image = Image { nodes: Vec::new() };
    read(&mut image, &folder.join(FILES));
    let text = std::fs::read_to_string(folder.join(MODEL)).expect("read");
    let model = Model::from_text(&text);
    recover(image, &model, Faults::NONE, 9, &mut Dice::new(0)).map(|_| ())
}
