//! aof2-s3
