//! aof2-format
