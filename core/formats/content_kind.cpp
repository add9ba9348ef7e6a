#include "formats/content_kind.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <climits>
#include <cstring>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

uint64_t little_endian_u64(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 8; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

std::string_view skip_blanks(std::string_view text) {
  const size_t at = text.find_first_not_of(" \t\r\n");
  return at == std::string_view::npos ? std::string_view() : text.substr(at);
}

bool starts_with_ignoring_case(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() &&
         std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
         });
}

// A header length that fits into the file is no pickle, though it may begin with the same bytes.
bool is_pickle(std::string_view prefix, bool length_fits) {
  return !length_fits && prefix[0] == '\x80' && prefix[1] >= 2 && prefix[1] <= 5;
}

bool is_html(std::string_view prefix) {
  const std::string_view text = skip_blanks(prefix);
  return starts_with_ignoring_case(text, "<!doctype") || starts_with_ignoring_case(text, "<html") ||
         starts_with_ignoring_case(text, "<?xml");
}

// "…/model.bin" -> "model.safetensors", for the command in the text.
std::string converted_name(const std::string& path) {
  std::string name = path.substr(path.find_last_of('/') + 1);
  const size_t dot = name.find_last_of('.');
  if (dot != std::string::npos && dot > 0) name.resize(dot);
  return escaped(name + ".safetensors");
}

std::string pickle_text(const std::string& path, std::string_view expected, std::string_view what) {
  const std::string name = escaped(path.substr(path.find_last_of('/') + 1));
  return fmt::format(
      "found {}, expected {} (loading a pickle can run code, so it is always refused; convert it "
      "where you trust it: python -c 'import torch, safetensors.torch as s; "
      "s.save_file(torch.load(\"{}\", map_location=\"cpu\", weights_only=True), \"{}\")')",
      what, expected, name, converted_name(path));
}

}  // namespace

ContentKind kind_of_content(std::string_view prefix, uint64_t file_nbytes) {
  if (prefix.starts_with("GGUF")) return ContentKind::gguf;
  if (prefix.size() < 8) return ContentKind::too_short;
  const bool length_fits = little_endian_u64(prefix) <= file_nbytes - 8;
  if (length_fits && skip_blanks(prefix.substr(8)).starts_with('{')) {
    return ContentKind::safetensors;
  }
  if (prefix.starts_with("PK\x03\x04") || prefix.starts_with("PK\x05\x06")) return ContentKind::zip;
  if (is_pickle(prefix, length_fits)) return ContentKind::pickle;
  if (prefix.size() >= 262 && prefix.substr(257, 5) == "ustar") return ContentKind::tar;
  if (prefix.starts_with("version https://git-lfs")) return ContentKind::lfs;
  if (is_html(prefix)) return ContentKind::html;
  const std::string_view text = skip_blanks(prefix);
  if (text.starts_with("{\"") || text.starts_with("{\n") || text.starts_with("{ ")) {
    return ContentKind::json;
  }
  return ContentKind::unknown;
}

Result<ContentKind> read_content_kind(const File& file, uint64_t file_nbytes) {
  std::string prefix(std::min(file_nbytes, kContentPrefix), '\0');
  LS_CHECK(file.read_exact(std::as_writable_bytes(std::span(prefix)), 0));
  return kind_of_content(prefix, file_nbytes);
}

Error refused_content(ContentKind kind, const std::string& path, std::string_view expected,
                      uint64_t file_nbytes) {
  const auto refused = [&](std::string detail) {
    return Error{Code::invalid_checkpoint, fmt::format("{} file rejected", expected),
                 escaped(path, PATH_MAX), std::move(detail)};
  };
  switch (kind) {
    case ContentKind::too_short:
      return refused(
          fmt::format("found {} bytes, expected at least 8 (too short: an interrupted "
                      "download?)",
                      file_nbytes));
    case ContentKind::zip:
      return refused(pickle_text(path, expected, "a zip archive (a PyTorch pickle)"));
    case ContentKind::pickle:
      return refused(pickle_text(path, expected, "a pickle"));
    case ContentKind::tar:
      return refused(pickle_text(path, expected, "a tar archive (an old PyTorch pickle)"));
    case ContentKind::html:
      return refused(
          fmt::format("found an HTML page, expected {} (an error or login page was saved "
                      "under this name: download the file again)",
                      expected));
    case ContentKind::lfs:
      return refused(
          fmt::format("found a Git LFS pointer, expected {} (the clone holds no weights: "
                      "run git lfs pull)",
                      expected));
    case ContentKind::json:
      return refused(fmt::format("found a JSON text, expected {}", expected));
    case ContentKind::gguf:
      return refused(fmt::format("found GGUF, expected {} (name the file .gguf)", expected));
    case ContentKind::safetensors:
      return refused(
          fmt::format("found safetensors, expected {} (name the file .safetensors)", expected));
    case ContentKind::unknown:
      break;
  }
  return refused(fmt::format("found neither safetensors nor GGUF, expected {}", expected));
}

}  // namespace loadstone::formats
