// The switch of the mutants: which one is on (MUTANT=NUMBER, read once), and which each case met
// (written to MUTANTS_MET=FILE). Included in front of every mutated source.
#pragma once

namespace mutation {

extern const int active;
extern bool met[];

inline bool on(int number) {
  met[number] = true;
  return number == active;
}

template <int kNumber, class A, class B>
bool less(const A& a, const B& b) {
  return on(kNumber) ? a <= b : a < b;
}
template <int kNumber, class A, class B>
bool less_or_equal(const A& a, const B& b) {
  return on(kNumber) ? a < b : a <= b;
}
template <int kNumber, class A, class B>
bool greater(const A& a, const B& b) {
  return on(kNumber) ? a >= b : a > b;
}
template <int kNumber, class A, class B>
bool greater_or_equal(const A& a, const B& b) {
  return on(kNumber) ? a > b : a >= b;
}

}  // namespace mutation
