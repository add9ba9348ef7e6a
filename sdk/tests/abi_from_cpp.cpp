// The same pins where <loadstone/plugin.h> is read as C++.
#include "abi_layout.c"
