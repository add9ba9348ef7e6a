// The switch of the mutants: which one is on (MUTANT=NUMBER, read once), and which were met
// (MUTANTS_MET=FILE, written at the end). Included in front of every mutated source.
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
