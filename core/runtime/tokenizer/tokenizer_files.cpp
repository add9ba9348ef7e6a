// Tokenizer::open: tokenizer.json, or vocab.json with merges.txt, into the tokenizer's parts.
#include <map>

#include "base/text.hpp"
#include "base/tree.hpp"
#include "runtime/tokenizer/tokenizer.hpp"

namespace loadstone::tokenizer {
namespace {

using Vocabulary = std::vector<std::pair<std::string, int64_t>>;
using Merges = std::vector<std::pair<std::string, std::string>>;

constexpr uint64_t kMaxFileBytes = 64u << 20;

Error unsupported(const Node& at, std::string what, std::string expected) {
  return Error{Code::unsupported,
               "tokenizer is of another kind",
               at.mark().text(),
               "found " + std::move(what) + ", expected " + std::move(expected),
               "",
               {}};
}

Error malformed(const std::string& where, std::string found, std::string expected) {
  return Error{Code::invalid_checkpoint,
               "tokenizer rejected",
               where,
               "found " + std::move(found) + ", expected " + std::move(expected),
               "",
               {}};
}

std::string described(const Node* node) { return node == nullptr ? "nothing" : node->describe(); }

std::string_view text_of(const Node* node) {
  return node != nullptr && node->is_text() ? std::string_view(node->text()) : "";
}

bool is_true(const Node* node) { return node != nullptr && node->is_bool() && node->boolean(); }

/// Absent, null, false, "" or an empty list.
bool is_off(const Node* node) {
  return node == nullptr || node->is_null() || (node->is_bool() && !node->boolean()) ||
         (node->is_text() && node->text().empty()) || (node->is_list() && node->items().empty());
}

Result<Node> read_json(FileSystem& files, const std::string& path) {
  LS_TRY(std::string text, read_text(files, path, kMaxFileBytes));
  return parse_json(text, path);
}

Result<Vocabulary> read_vocabulary(const Node* node, const std::string& where) {
  if (node == nullptr || !node->is_map()) {
    return malformed(where, described(node), "a map of tokens to ids");
  }
  Vocabulary vocabulary;
  vocabulary.reserve(node->entries().size());
  for (const auto& [token, id] : node->entries()) {
    if (!id.is_integer()) {
      return malformed(where, id.describe() + " for token " + quoted(token), "an integer id");
    }
    vocabulary.emplace_back(token, id.integer());
  }
  return vocabulary;
}

/// "a b", one space between two parts that hold none.
Result<std::pair<std::string, std::string>> split_merge(std::string_view line,
                                                        const std::string& where) {
  const size_t space = line.find(' ');
  if (space == 0 || space == std::string_view::npos || space + 1 == line.size() ||
      line.find(' ', space + 1) != std::string_view::npos) {
    return malformed(where, "merge " + quoted(line), "two tokens and one space between them");
  }
  return std::pair{std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

Result<Merges> read_merges(const Node* node, const std::string& where) {
  if (node == nullptr || !node->is_list()) {
    return malformed(where, described(node), "a list of merges");
  }
  Merges merges;
  merges.reserve(node->items().size());
  for (const Node& item : node->items()) {
    if (item.is_text()) {
      LS_TRY(auto merge, split_merge(item.text(), where));
      merges.push_back(std::move(merge));
    } else if (item.is_list() && item.items().size() == 2 && item.items()[0].is_text() &&
               item.items()[1].is_text()) {
      merges.emplace_back(item.items()[0].text(), item.items()[1].text());
    } else {
      return malformed(where, item.describe() + " as merge " + std::to_string(merges.size() + 1),
                       "two tokens");
    }
  }
  return merges;
}

/// merges.txt: a first line "#version: …", then a merge a line.
Result<Merges> read_merges_text(std::string_view text, const std::string& path) {
  Merges merges;
  size_t number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    LS_TRY(auto merge, split_merge(line, path + ":" + std::to_string(number)));
    merges.push_back(std::move(merge));
  }
  return merges;
}

Result<AddedToken> read_added(const Node& node, const std::string& where) {
  const Node* content = node.find("content");
  if (content == nullptr || !content->is_text()) {
    return malformed(where, described(content) + " as content of an added token", "a text");
  }
  if (is_true(node.find("single_word"))) {
    return unsupported(node, "single_word of " + quoted(content->text()), "false");
  }
  AddedToken token;
  token.content = content->text();
  token.left_strip = is_true(node.find("lstrip"));
  token.right_strip = is_true(node.find("rstrip"));
  token.normalized = is_true(node.find("normalized"));
  if (const Node* id = node.find("id")) {
    if (!id->is_integer()) {
      return malformed(where, id->describe() + " as id of " + quoted(token.content), "an integer");
    }
    token.id = id->integer();
  }
  return token;
}

Result<bool> read_normalizer(const Node* node) {
  if (is_off(node)) return false;
  if (text_of(node->find("type")) == "NFC") return true;
  return unsupported(*node, "normalizer " + quoted(text_of(node->find("type"))), "NFC or null");
}

/// A Split by a known pattern, then ByteLevel without a pattern of its own.
Result<Splitter> read_pre_tokenizer(const Node& root) {
  constexpr std::string_view expected = "a Split by a pattern, then ByteLevel";
  const Node* node = root.find("pre_tokenizer");
  if (node == nullptr || text_of(node->find("type")) != "Sequence") {
    return unsupported(root, "pre_tokenizer " + described(node), std::string(expected));
  }
  const Node* steps = node->find("pretokenizers");
  if (steps == nullptr || !steps->is_list() || steps->items().size() != 2) {
    return unsupported(*node, described(steps), std::string(expected));
  }
  const Node &split = steps->items()[0], &bytes = steps->items()[1];
  const Node* pattern = split.find("pattern");
  if (text_of(split.find("type")) != "Split" || text_of(split.find("behavior")) != "Isolated" ||
      is_true(split.find("invert")) || pattern == nullptr) {
    return unsupported(split, "pre-tokenizer " + split.to_json(), "an isolating Split");
  }
  if (text_of(bytes.find("type")) != "ByteLevel" || is_true(bytes.find("add_prefix_space")) ||
      is_true(bytes.find("use_regex"))) {
    return unsupported(bytes, "pre-tokenizer " + bytes.to_json(),
                       "ByteLevel without prefix space and regex");
  }
  auto splitter = splitter_of(text_of(pattern->find("Regex")));
  if (!splitter) return std::move(splitter).error().at(split.mark().text());
  return splitter;
}

/// Post-processors that add tokens are refused; those that only shift offsets are fine.
Status check_post_processor(const Node* node) {
  if (is_off(node)) return {};
  const std::string_view type = text_of(node->find("type"));
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") {
    const Node* single = node->find("single");
    if (single != nullptr && single->is_list() && single->items().size() == 1 &&
        single->items()[0].find("Sequence") != nullptr) {
      return {};
    }
  }
  return unsupported(*node, "post_processor " + node->to_json(), "one that adds no tokens");
}

Result<Tokenizer::Parts> read_tokenizer_json(const Node& root, const std::string& path) {
  const Node* model = root.find("model");
  if (model == nullptr || text_of(model->find("type")) != "BPE") {
    return unsupported(root, "model " + described(model == nullptr ? nullptr : model->find("type")),
                       "\"BPE\"");
  }
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                          "byte_fallback"}) {
    if (!is_off(model->find(key))) {
      return unsupported(*model, std::string(key) + " " + model->find(key)->describe(), "none");
    }
  }
  LS_TRY(Vocabulary vocabulary, read_vocabulary(model->find("vocab"), path));
  LS_TRY(Merges merges, read_merges(model->find("merges"), path));
  LS_TRY(Bpe bpe, Bpe::make(std::move(vocabulary), merges,
                            {.ignore_merges = is_true(model->find("ignore_merges"))}));
  LS_TRY(Splitter split, read_pre_tokenizer(root));
  LS_TRY(bool nfc, read_normalizer(root.find("normalizer")));
  LS_CHECK(check_post_processor(root.find("post_processor")));
  Tokenizer::Parts parts{std::move(bpe), {}, split, nfc};
  if (const Node* added = root.find("added_tokens"); added != nullptr && added->is_list()) {
    for (const Node& item : added->items()) {
      LS_TRY(AddedToken token, read_added(item, path));
      parts.added.push_back(std::move(token));
    }
  }
  return parts;
}

/// A token named by a text or by a map with "content".
std::string name_of_token(const Node& node) {
  return std::string(node.is_text() ? text_of(&node) : text_of(node.find("content")));
}

/// The added tokens of tokenizer_config.json: with ids under `added_tokens_decoder`; those that
/// are only named follow the last id in the order in which the library of the files adds them.
Result<std::vector<AddedToken>> read_config_tokens(const Node& config, const Bpe& bpe,
                                                   const std::string& path) {
  std::vector<AddedToken> tokens;
  std::map<std::string, int64_t> known;
  int64_t next = int64_t{bpe.max_id()} + 1;
  if (const Node* decoder = config.find("added_tokens_decoder");
      decoder != nullptr && decoder->is_map()) {
    for (const auto& [id, node] : decoder->entries()) {
      if (id.empty() || id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos) {
        return malformed(path, "added token id " + quoted(id), "digits");
      }
      LS_TRY(AddedToken token, read_added(node, path));
      token.id = std::stoll(id);
      next = std::max(next, token.id + 1);
      known.emplace(token.content, token.id);
      tokens.push_back(std::move(token));
    }
  }
  auto add_named = [&](const Node* node) {
    const std::string content = node == nullptr ? "" : name_of_token(*node);
    if (content.empty() || known.contains(content)) return;
    AddedToken token;
    token.content = content;
    const int32_t id = bpe.id_of(content);
    token.id = id >= 0 ? id : next++;
    known.emplace(content, token.id);
    tokens.push_back(std::move(token));
  };
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                          "cls_token", "mask_token"}) {
    add_named(config.find(key));
  }
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    const Node* list = config.find(key);
    if (list == nullptr || !list->is_list()) continue;
    for (const Node& item : list->items()) add_named(&item);
  }
  return tokens;
}

Result<Tokenizer::Parts> read_vocabulary_files(FileSystem& files, const std::string& folder) {
  const std::string config_path = folder + "/tokenizer_config.json";
  LS_TRY(Node config, read_json(files, config_path));
  const std::string_view kind = text_of(config.find("tokenizer_class"));
  if (kind != "Qwen2Tokenizer" && kind != "Qwen2TokenizerFast") {
    return unsupported(config, "tokenizer_class " + described(config.find("tokenizer_class")),
                       "\"Qwen2Tokenizer\" beside vocab.json and merges.txt");
  }
  const std::string vocabulary_path = folder + "/vocab.json", merges_path = folder + "/merges.txt";
  LS_TRY(Node vocabulary_node, read_json(files, vocabulary_path));
  LS_TRY(Vocabulary vocabulary, read_vocabulary(&vocabulary_node, vocabulary_path));
  LS_TRY(std::string merges_text, read_text(files, merges_path, kMaxFileBytes));
  LS_TRY(Merges merges, read_merges_text(merges_text, merges_path));
  LS_TRY(Bpe bpe, Bpe::make(std::move(vocabulary), merges, {}));
  LS_TRY(auto added, read_config_tokens(config, bpe, config_path));
  return Tokenizer::Parts{std::move(bpe), std::move(added), &split_qwen2, true};
}

}  // namespace

Result<Tokenizer> Tokenizer::open(FileSystem& files, const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  auto build = [&]() -> Result<Tokenizer> {
    if (files.is_regular(path)) {
      LS_TRY(Node root, read_json(files, path));
      LS_TRY(Parts parts, read_tokenizer_json(root, path));
      return make(std::move(parts));
    }
    if (!files.is_regular(folder + "/vocab.json") || !files.is_regular(folder + "/merges.txt")) {
      return Error{Code::not_found,
                   "no tokenizer",
                   "",
                   "found neither tokenizer.json nor vocab.json with merges.txt, expected one of "
                   "them",
                   "",
                   {}};
    }
    LS_TRY(Parts parts, read_vocabulary_files(files, folder));
    return make(std::move(parts));
  };
  auto out = build();
  if (!out && out.error().where.find(folder) == std::string::npos) {
    return std::move(out).error().at(escaped(folder));
  }
  return out;
}

}  // namespace loadstone::tokenizer
