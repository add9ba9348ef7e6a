#include "plugin/sinks.hpp"

#include "base/text.hpp"
#include "plugin/foreign.hpp"

ls_node::ls_node(const loadstone::Node& source) : node(&source) {
  using Kind = loadstone::Node::Kind;
  has_text = source.kind() != Kind::null;
  if (source.is_text()) {
    text = source.text();
  } else if (has_text) {
    text = source.to_json();
  }
  if (source.is_list()) {
    for (const loadstone::Node& item : source.items()) children.emplace_back(item);
  }
  if (source.is_map()) {
    for (const auto& [key, value] : source.entries()) children.emplace_back(value);
  }
}

namespace loadstone::plugin {

namespace {

constexpr uint64_t kMaxCalls = 1u << 20;
thread_local std::string failure_text;

int32_t refuse(int32_t status, std::string text) {
  failure_text = std::move(text);
  return status;
}

int32_t host_fail(int32_t status, const char* text) {
  failure_text = escaped(foreign_text(text), 4000);
  return status == LS_OK ? LS_INTERNAL : status;
}

/// A sink of the right kind and within bounds, and a struct that can be read.
template <typename T>
int32_t admit(ls_sink* sink, ls_sink::Kind kind, const T* from, T& out, const char* call) {
  if (sink == nullptr || sink->kind != kind) {
    return refuse(LS_INVALID_ARGUMENT, std::string(call) + ": found a sink of another call");
  }
  if (++sink->calls > kMaxCalls) {
    return refuse(LS_RESOURCE, std::string(call) + ": found more than 1048576 answers");
  }
  const auto copy = read_foreign(from);
  if (!copy) return refuse(LS_INVALID_ARGUMENT, std::string(call) + ": found no struct");
  out = *copy;
  return LS_OK;
}

int32_t plan_source(ls_sink* sink, const ls_source* from) {
  ls_source copy{};
  const int32_t status = admit(sink, ls_sink::Kind::plan, from, copy, "plan_source");
  if (status == LS_OK) sink->plan->sources.push_back(copy);
  return status;
}

int32_t plan_stored(ls_sink* sink, const ls_stored* from) {
  ls_stored copy{};
  const int32_t status = admit(sink, ls_sink::Kind::plan, from, copy, "plan_stored");
  if (status != LS_OK) return status;
  sink->plan->stored_names.emplace_back(foreign_text(copy.name));
  copy.name = nullptr;
  sink->plan->stored.push_back(copy);
  return LS_OK;
}

int32_t plan_identity(ls_sink* sink, const ls_identity* from) {
  ls_identity copy{};
  const int32_t status = admit(sink, ls_sink::Kind::plan, from, copy, "plan_identity");
  if (status == LS_OK) sink->plan->identities.push_back(copy);
  return status;
}

int32_t plan_repack(ls_sink* sink, const ls_repack* from) {
  ls_repack copy{};
  const int32_t status = admit(sink, ls_sink::Kind::plan, from, copy, "plan_repack");
  if (status == LS_OK) sink->plan->repacks.push_back(copy);
  return status;
}

int32_t plan_unused(ls_sink* sink, uint32_t tensor, const char* reason) {
  ls_source placeholder{}, copy{};
  placeholder.struct_size = sizeof placeholder;
  const int32_t status = admit(sink, ls_sink::Kind::plan, &placeholder, copy, "plan_unused");
  if (status == LS_OK) sink->plan->unused.emplace_back(tensor, foreign_text(reason));
  return status;
}

int32_t plan_work(ls_sink* sink, const ls_work* from) {
  ls_work copy{};
  const int32_t status = admit(sink, ls_sink::Kind::plan, from, copy, "plan_work");
  if (status != LS_OK) return status;
  ++sink->works;
  sink->plan->reason = foreign_text(copy.reason);
  sink->plan->kernel = foreign_text(copy.kernel);
  copy.reason = copy.kernel = nullptr;
  sink->plan->work = copy;
  return LS_OK;
}

const ls_node* node_get(const ls_node* node, const char* key) {
  if (node == nullptr || key == nullptr || !node->node->is_map()) return nullptr;
  const auto& entries = node->node->entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].first == key) return &node->children[i];
  }
  return nullptr;
}

const ls_node* node_at(const ls_node* node, uint64_t index, const char** key) {
  if (key != nullptr) *key = nullptr;
  if (node == nullptr || index >= node->children.size()) return nullptr;
  if (key != nullptr && node->node->is_map()) *key = node->node->entries()[index].first.c_str();
  return &node->children[index];
}

uint64_t node_count(const ls_node* node) { return node == nullptr ? 0 : node->children.size(); }

const char* node_text(const ls_node* node) {
  return node == nullptr || !node->has_text ? nullptr : node->text.c_str();
}

uint32_t node_kind(const ls_node* node) {
  if (node == nullptr) return 0;
  switch (node->node->kind()) {
    case Node::Kind::null:
      return 0;
    case Node::Kind::boolean:
      return LS_FIELD_BOOL;
    case Node::Kind::integer:
      return LS_FIELD_INTEGER;
    case Node::Kind::number:
      return LS_FIELD_NUMBER;
    case Node::Kind::text:
      return LS_FIELD_TEXT;
    case Node::Kind::list:
      return LS_FIELD_TEXTS;
    case Node::Kind::map:
      return LS_FIELD_TREE;
  }
  return 0;
}

Result<Node> node_of_value(const ls_value& value) {
  const bool lists = value.type == LS_FIELD_INTEGERS || value.type == LS_FIELD_TEXTS;
  std::vector<Node> items;
  for (uint64_t i = 0; lists && i < std::min<uint64_t>(value.count, kMaxCalls); ++i) {
    items.push_back(value.type == LS_FIELD_INTEGERS
                        ? Node::of_integer(value.integers[i])
                        : Node::of_text(std::string(foreign_text(value.texts[i], 1u << 20))));
  }
  switch (value.type) {
    case LS_FIELD_BOOL:
      return Node::of_bool(value.integer != 0);
    case LS_FIELD_INTEGER:
      return Node::of_integer(value.integer);
    case LS_FIELD_NUMBER:
      return Node::of_number(value.number);
    case LS_FIELD_TEXT:
      return Node::of_text(std::string(foreign_text(value.text, 1u << 20)));
    case LS_FIELD_INTEGERS:
    case LS_FIELD_TEXTS:
      return Node::of_list(std::move(items));
    case LS_FIELD_TREE:
      return parse_json(foreign_text(value.text, 16u << 20), "");
    default:
      return Error{Code::internal, "unknown field type", "", "found " + std::to_string(value.type),
                   ""};
  }
}

bool known_style(uint32_t style) { return style >= LS_STYLE_EXACT && style <= LS_STYLE_PREFIX; }

int32_t declare_field(ls_sink* sink, const char* pattern, uint32_t style, const ls_value* from) {
  ls_value copy{};
  const int32_t status = admit(sink, ls_sink::Kind::declaration, from, copy, "declare_field");
  if (status != LS_OK) return status;
  if (pattern != nullptr && !known_style(style)) {
    return refuse(LS_INVALID_ARGUMENT, "declare_field: found unknown style");
  }
  auto value = node_of_value(copy);
  if (!value.ok()) return refuse(LS_INVALID_ARGUMENT, "declare_field: " + value.error().text());
  sink->declaration->fields.push_back({std::string(foreign_text(pattern)), style,
                                       std::string(foreign_text(copy.name)),
                                       std::move(value).value()});
  return LS_OK;
}

int32_t declare_scope(ls_sink* sink, const char* pattern, uint32_t style, uint32_t scope) {
  ls_source placeholder{}, copy{};
  placeholder.struct_size = sizeof placeholder;
  const int32_t status =
      admit(sink, ls_sink::Kind::declaration, &placeholder, copy, "declare_scope");
  if (status != LS_OK) return status;
  const bool known = known_style(style) && (scope == LS_SCOPE_KEEP || scope == LS_SCOPE_QUANTIZE);
  if (!known || pattern == nullptr || pattern[0] == '\0') {
    return refuse(LS_INVALID_ARGUMENT, "declare_scope: found no pattern, style or scope");
  }
  sink->declaration->scopes.push_back(
      {std::string(foreign_text(pattern)), style, scope == LS_SCOPE_KEEP});
  return LS_OK;
}

int32_t save_tensor(ls_sink* sink, const ls_stored* from, uint32_t part) {
  ls_stored copy{};
  const int32_t status = admit(sink, ls_sink::Kind::save_layer, from, copy, "save_tensor");
  if (status != LS_OK) return status;
  if (copy.rank > LS_MAX_RANK) return refuse(LS_INVALID_ARGUMENT, "save_tensor: found rank > 6");
  SavedTensor saved;
  saved.name = foreign_text(copy.name);
  saved.dtype = static_cast<DType>(copy.dtype);
  saved.shape.assign(copy.shape, copy.shape + copy.rank);
  saved.part = part;
  sink->saved->push_back(std::move(saved));
  return LS_OK;
}

int32_t save_declaration(ls_sink* sink, const char* json) {
  ls_source placeholder{}, copy{};
  placeholder.struct_size = sizeof placeholder;
  const int32_t status =
      admit(sink, ls_sink::Kind::save_model, &placeholder, copy, "save_declaration");
  if (status == LS_OK) *sink->json = foreign_text(json, 16u << 20);
  return status;
}

/// No exception of ours crosses the interface.
template <auto Entry, typename... Args>
int32_t guard(Args... args) noexcept {
  try {
    return Entry(args...);
  } catch (const std::exception&) {
    return LS_RESOURCE;
  }
}

}  // namespace

void add_sink_entries(ls_host& table) {
  table.fail = guard<host_fail>;
  table.plan_source = guard<plan_source>;
  table.plan_stored = guard<plan_stored>;
  table.plan_identity = guard<plan_identity>;
  table.plan_repack = guard<plan_repack>;
  table.plan_unused = guard<plan_unused>;
  table.plan_work = guard<plan_work>;
  table.node_get = node_get;
  table.node_at = node_at;
  table.node_count = node_count;
  table.node_text = node_text;
  table.node_kind = node_kind;
  table.declare_field = guard<declare_field>;
  table.declare_scope = guard<declare_scope>;
  table.save_tensor = guard<save_tensor>;
  table.save_declaration = guard<save_declaration>;
}

void forget_failure() { failure_text.clear(); }

std::string take_failure() {
  std::string out = std::move(failure_text);
  failure_text.clear();
  return out;
}

}  // namespace loadstone::plugin
