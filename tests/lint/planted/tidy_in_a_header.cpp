// must be found: planted/header.hpp:6
#include "header.hpp"
