//! Fields of fixed layouts. `layout!` declares one table of offsets; the compiler checks that the fields lie one behind the other
//! without a gap, in exactly the stated size, and that each is read with its own width.

/// A field of `N` bytes at an offset.
#[derive(Clone, Copy, Debug)]
pub struct Field<const N: usize>(pub usize);

impl<const N: usize> Field<N> {
    pub const fn end(self) -> usize {
        self.0 + N
    }

    /// The caller has checked that `bytes` holds the layout.
    pub(crate) fn get(self, bytes: &[u8]) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&bytes[self.0..self.0 + N]);
        value
    }

    pub(crate) fn put(self, bytes: &mut [u8], value: [u8; N]) {
        bytes[self.0..self.0 + N].copy_from_slice(&value);
    }
}

macro_rules! integer_field {
    ($bytes:literal, $integer:ty) => {
        impl Field<$bytes> {
            #[inline]
            pub(crate) fn read(self, bytes: &[u8]) -> $integer {
                <$integer>::from_le_bytes(self.get(bytes))
            }

            #[inline]
            pub(crate) fn write(self, bytes: &mut [u8], value: $integer) {
                self.put(bytes, value.to_le_bytes());
            }
        }
    };
}
integer_field!(1, u8);
integer_field!(2, u16);
integer_field!(4, u32);
integer_field!(8, u64);

/// One row of a layout, for the test that reads the tables in the `.md` files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub field: &'static str,
    pub offset: usize,
    pub bytes: usize,
}

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident: $total:expr, { $($field:ident: $offset:expr, $bytes:expr;)* }) => {
        $(#[$doc])*
        #[allow(dead_code)] // reserved fields have a row and no reader
        pub mod $name {
            use $crate::field::{Field, Row};

            $(pub const $field: Field<{ $bytes }> = Field($offset);)*
            /// Bytes of the whole layout.
            pub const BYTES: usize = $total;
            pub const ROWS: &[Row] = &[$(Row { field: stringify!($field), offset: $offset, bytes: $bytes },)*];

            const _: () = {
                let mut end = 0;
                let mut row = 0;
                while row < ROWS.len() {
                    assert!(ROWS[row].offset == end, "fields must lie one behind the other");
                    end += ROWS[row].bytes;
                    row += 1;
                }
                assert!(end == BYTES, "fields must fill the layout");
            };
        }
    };
}
pub(crate) use layout;
