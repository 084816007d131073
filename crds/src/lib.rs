//! aof2-crds
