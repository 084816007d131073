//! aof2-operator
