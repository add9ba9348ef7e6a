// What stands behind the opaque types of the interface, and collecting what plugins say.
#pragma once

#include <loadstone/plugin.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/tree.hpp"
#include "plugin/registry.hpp"
#include "plugin/saving.hpp"

/// One call's answers. The host's functions refuse a sink of another call's kind.
struct ls_sink {
  enum class Kind : uint8_t { plan, declaration, save_layer, save_model };
  Kind kind;
  uint64_t calls = 0;  // bounded: a plugin in a loop must not eat the memory
  loadstone::plugin::LayerAnswer* plan = nullptr;
  uint32_t works = 0;
  loadstone::plugin::DeclarationReading* declaration = nullptr;
  std::vector<loadstone::plugin::SavedTensor>* saved = nullptr;
  std::string* json = nullptr;
};

/// A node of a declaration with the texts that plugins may keep as long as the node.
struct ls_node {
  explicit ls_node(const loadstone::Node& source);
  const loadstone::Node* node;
  std::deque<ls_node> children;
  std::string text;
  bool has_text = false;
};

namespace loadstone::plugin {

/// Fills the host table's sink and node entries.
void add_sink_entries(ls_host& table);

/// This thread's text of `fail`, escaped, and forgets it.
std::string take_failure();

}  // namespace loadstone::plugin
