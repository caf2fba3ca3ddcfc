// must be found: host_stub/kvm may not include host_stub/sim
#include "sim/backend.hpp"
