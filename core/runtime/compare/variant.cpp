#include "runtime/compare/variant.hpp"

#include <string_view>

#include "base/text.hpp"

namespace loadstone::compare {
namespace {

constexpr uint64_t kMaxConfigNbytes = 16u << 20;

Error conflict(const QuantizationFlags& flags, const std::string& found,
               const std::string& expected) {
  return Error{Code::invalid_argument,
               "flags conflict",
               flags.side,
               "found " + found + ", expected " + expected,
               "",
               {}};
}

std::string flag(const QuantizationFlags& flags, const char* rest) {
  return "--" + flags.side + "-" + rest;
}

Result<Node> read_object(FileSystem& files, const QuantizationFlags& flags) {
  const std::string& given = *flags.config_json;
  std::string name = flag(flags, "quantization-config-json");
  std::string text = given;
  if (!given.empty() && files.is_regular(given)) {
    LS_TRY(text, read_text(files, given, kMaxConfigNbytes));
    name = given;
  }
  LS_TRY(Node node, parse_json(text, name));
  if (!node.is_map()) {
    return Error{Code::invalid_config,
                 "quantization config rejected",
                 name,
                 "found " + node.describe() + ", expected an object such as {\"method\": \"fp8\"}",
                 "",
                 {}};
  }
  return node;
}

}  // namespace

Node VariantQuantization::spec() const {
  if (config) return *config;
  if (method) return Node::of_text(*method);
  return Node{};
}

std::vector<std::string> split_names(const std::string& text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  std::vector<std::string> names;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string_view name = std::string_view(text).substr(begin, end - begin);
    const size_t first = name.find_first_not_of(kBlanks);
    if (first != std::string_view::npos) {
      name = name.substr(first, name.find_last_not_of(kBlanks) - first + 1);
      names.emplace_back(name);
    }
    begin = end + 1;
  }
  return names;
}

Result<VariantQuantization> variant_quantization(FileSystem& files,
                                                 const QuantizationFlags& flags) {
  VariantQuantization out;
  if (flags.config_json) {
    if (flags.method) {
      return conflict(
          flags, flag(flags, "quantization") + " beside " + flag(flags, "quantization-config-json"),
          "one of the two");
    }
    if (flags.ignored_layers) {
      return conflict(flags, "ignored layers beside " + flag(flags, "quantization-config-json"),
                      "ignored_layers inside the object");
    }
    LS_TRY(out.config, read_object(files, flags));
    return out;
  }
  if (!flags.ignored_layers) {
    out.method = flags.method;
    return out;
  }
  if (!flags.method) {
    return conflict(flags, "ignored layers without a method",
                    flag(flags, "quantization") + " METHOD beside them");
  }
  std::vector<Node> names;
  for (std::string& name : split_names(*flags.ignored_layers)) {
    names.push_back(Node::of_text(std::move(name)));
  }
  out.config = Node::of_map({{"method", Node::of_text(*flags.method)},
                             {"ignored_layers", Node::of_list(std::move(names))}});
  return out;
}

}  // namespace loadstone::compare
