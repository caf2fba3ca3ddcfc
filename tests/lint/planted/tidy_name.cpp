// must be found: readability-identifier-naming
int KindOf(int value) { return value + 1; }
