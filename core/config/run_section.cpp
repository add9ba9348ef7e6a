#include "config/run_section.hpp"

#include <charconv>
#include <vector>

#include "base/text.hpp"

namespace loadstone::config {
namespace {

constexpr uint32_t kMostRows = 16384;

struct Spelling {
  const char* name;
  DType dtype;
};
constexpr Spelling kSpellings[] = {
    {"f32", DType::F32},       {"fp32", DType::F32}, {"float32", DType::F32},
    {"bf16", DType::BF16},     {"f16", DType::F16},  {"fp16", DType::F16},
    {"bfloat16", DType::BF16}, {"half", DType::F16}, {"float16", DType::F16}};

std::string short_name(DType compute) {
  for (const Spelling& spelling : kSpellings) {
    if (spelling.dtype == compute) return spelling.name;
  }
  return "";
}

}  // namespace

Result<DType> parse_compute(const std::string& name) {
  std::vector<std::string> names;
  for (const Spelling& spelling : kSpellings) {
    if (name == spelling.name) return spelling.dtype;
    names.emplace_back(spelling.name);
  }
  const std::string hint = nearest(name, names);
  return Error{Code::invalid_config, "unknown dtype", "run.compute",
               "found " + quoted(name) + ", expected f32, bf16 or f16",
               hint.empty() ? "" : quoted(hint)};
}

Result<uint32_t> parse_decode_rows(const std::string& text) {
  if (text == "auto") return 0u;
  uint32_t rows = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, rows);
  if (error == std::errc() && stop == end && rows >= 1 && rows <= kMostRows) return rows;
  return Error{Code::invalid_config, "value rejected", "run.decode_rows",
               "found " + quoted(text) + ", expected auto, or an integer from 1 to " +
                   std::to_string(kMostRows),
               ""};
}

std::string RunSection::text() const {
  std::vector<std::string> parts;
  const RunSection usual;
  if (compute != usual.compute) parts.push_back("compute " + short_name(compute));
  if (graphs != usual.graphs) parts.emplace_back("graphs off");
  if (decode_rows != usual.decode_rows) {
    parts.push_back(std::to_string(decode_rows) + " rows decoded at a time");
  }
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

Node RunSection::to_node() const {
  return Node::of_map(
      {{"compute", Node::of_text(short_name(compute))},
       {"graphs", Node::of_bool(graphs)},
       {"decode_rows", decode_rows == 0 ? Node::of_text("auto") : Node::of_integer(decode_rows)}});
}

}  // namespace loadstone::config
