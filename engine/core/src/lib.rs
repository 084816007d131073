//! aof2-core
