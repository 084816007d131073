//! aof2-e2e
