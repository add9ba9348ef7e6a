// Test side only: the layer oracle's MX cases, each with how its method is asked for.
#pragma once

#include "common/testing/checkpoints.hpp"
#include "common/testing/layers.hpp"

namespace loadstone::common::testing {

struct MxCase {
  const char* name;    // of the oracle's method
  const char* method;  // of the plugin
  Json fields;
  const char* weight_of;  // the oracle method whose stored weight it shares
};

/// body(case's JSON, how it is asked for, layer name) for every case of these names.
template <typename Body>
void for_each_mx_case(const std::vector<MxCase>& cases, Body&& body) {
  int seen = 0;
  for (const Json& one : Layers::get().cases()) {
    for (const MxCase& known : cases) {
      if (one["method"] != known.name) continue;
      SCOPED_TRACE(one["layer"].get<std::string>() + " " + known.name);
      body(one, known, one["layer"].get<std::string>());
      ++seen;
    }
  }
  EXPECT_GT(seen, 0) << "no such case in " << Layers::kFile;
}

/// A stored tensor equals the oracle's, where the oracle has it.
inline void expect_stored(Produced& produced, const char* stored, const std::string& oracle) {
  if (!Layers::get().has(oracle)) return;
  EXPECT_EQ(produced.named(stored).as<char>(), Layers::get().at(oracle).bytes) << oracle;
}

inline void expect_mx_output(Driver& driver, const Json& one, const std::string& name,
                             TestLayer& layer, Produced& produced) {
  const Layers& oracle = Layers::get();
  const auto dequant = driver.dequantize(layer, produced, 0, layer.out, layer.in);
  oracle.expect_output(one, driver.apply(layer, produced, oracle.run(name)));
  EXPECT_GT(oracle.worst(one, oracle.weight_only(name, dequant)), 1.0)
      << "the case can't tell quantized activations from plain ones";
}

}  // namespace loadstone::common::testing
