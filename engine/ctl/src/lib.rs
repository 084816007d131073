//! aof2-ctl
