// Input: the text of a model_index.json.
#include "formats/model_index.hpp"

#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t nbytes) {
  using namespace loadstone;
  const std::string_view text(reinterpret_cast<const char*>(bytes), nbytes);
  const auto json = parse_json(text, "model_index.json");
  if (!json.ok()) return 0;
  const auto components = formats::parse_model_index(*json, "model_index.json");
  if (!components.ok()) return 0;
  for (const formats::IndexedComponent& component : *components) {
    if (component.name.empty() || component.name.find_first_of("/.\\") != std::string::npos) {
      std::abort();
    }
  }
  return 0;
}
