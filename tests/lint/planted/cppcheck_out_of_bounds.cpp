// must be found: arrayIndexOutOfBounds
int last() {
  const int counters[6] = {};
  return counters[6];
}
