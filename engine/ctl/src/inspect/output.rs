//! Chunk by chunk to standard output: pages for people, JSON for programs. What was printed is not kept.
//!
//! JSON of a volume is a list of chunks. JSON of a bucket is an object with that list and one of catalogues.

use serde::Serialize;

use super::bucket::{self, CatalogueRow};
use super::chunk::Chunk;
use super::filter::Filter;
use super::page::page;
use crate::exit::{Failure, Outcome};
use crate::render;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// One list.
    List,
    /// An object of lists.
    Object,
}

pub struct Output {
    form: Form,
    /// Of the list that is being written.
    entries: u64,
    parts: u64,
    is_damaged: bool,
}

impl Output {
    pub fn begin(form: Form) -> Result<Output, Failure> {
        match form {
            Form::Text => {}
            Form::List => render::line("[")?,
            Form::Object => render::line("{\"chunks\": [")?,
        }
        Ok(Output {
            form,
            entries: 0,
            parts: 0,
            is_damaged: false,
        })
    }

    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        self.is_damaged |= chunk.damage.is_some();
        match self.form {
            Form::Text => self.part(&page(chunk)),
            Form::List | Form::Object => self.entry(chunk),
        }
    }

    /// From here on catalogues are written.
    pub fn begin_catalogues(&mut self) -> Result<(), Failure> {
        self.entries = 0;
        match self.form {
            Form::Text | Form::List => Ok(()),
            Form::Object => render::line("],\n\"catalogues\": ["),
        }
    }

    pub fn catalogues(&mut self, stream: &str, rows: &[CatalogueRow]) -> Result<(), Failure> {
        self.is_damaged |= rows.iter().any(|row| row.damage.is_some());
        match self.form {
            Form::Text if rows.is_empty() => Ok(()),
            Form::Text => self.part(&bucket::page(stream, rows)),
            Form::List | Form::Object => rows.iter().try_for_each(|row| self.entry(row)),
        }
    }

    pub fn end(self, filter: &Filter) -> Result<Outcome, Failure> {
        match self.form {
            Form::Text if self.parts == 0 && filter.is_active() => {
                render::line("no record matches")?;
            }
            Form::Text => {}
            Form::List => render::line("]")?,
            Form::Object => render::line("]}")?,
        }
        Ok(match self.is_damaged {
            true => Outcome::Negative,
            false => Outcome::Clean,
        })
    }

    fn part(&mut self, part: &str) -> Result<(), Failure> {
        if self.parts > 0 {
            render::line("")?;
        }
        self.parts += 1;
        render::line(part)
    }

    fn entry(&mut self, entry: &impl Serialize) -> Result<(), Failure> {
        if self.entries > 0 {
            render::line(",")?;
        }
        self.entries += 1;
        render::json(entry)
    }
}
