//! aof2-node
