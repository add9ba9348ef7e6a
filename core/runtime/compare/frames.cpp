#include "runtime/compare/frames.hpp"

#include <algorithm>
#include <cctype>

#include "base/text.hpp"
#include "runtime/compare/png.hpp"

namespace loadstone::compare {
namespace {

constexpr uint64_t kMaxPictureNbytes = 1u << 30;

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

/// The run of digits at the front without leading zeros; `text` moves past it.
std::string_view take_number(std::string_view& text) {
  const auto end = std::find_if_not(text.begin(), text.end(), is_digit);
  std::string_view digits = text.substr(0, static_cast<size_t>(end - text.begin()));
  text.remove_prefix(digits.size());
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  return digits;
}

bool ends_with_png(std::string_view name) {
  if (name.size() < 4) return false;
  std::string tail(name.substr(name.size() - 4));
  for (char& c : tail) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return tail == ".png";
}

}  // namespace

bool natural_less(std::string_view a, std::string_view b) {
  const std::string_view whole_a = a, whole_b = b;
  while (!a.empty() && !b.empty()) {
    if (is_digit(a[0]) && is_digit(b[0])) {
      const std::string_view x = take_number(a), y = take_number(b);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
      continue;
    }
    if (a[0] != b[0]) return a[0] < b[0];
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  if (a.empty() != b.empty()) return a.empty();
  return whole_a < whole_b;  // equal but for leading zeros
}

Result<FrameFolder> read_frames(FileSystem& files, const std::string& folder) {
  LS_TRY(const auto entries, files.list(folder));
  FrameFolder out;
  std::vector<std::string> others;
  for (const DirectoryEntry& entry : entries) {
    const std::string path = folder + "/" + entry.name;
    if (ends_with_png(entry.name) && files.is_regular(path)) {
      out.names.push_back(entry.name);
    } else {
      others.push_back(escaped(entry.name));
    }
  }
  if (out.names.empty()) {
    return Error{Code::invalid_argument,
                 "no pictures to compare",
                 escaped(folder),
                 "found no file named *.png, expected pictures or frames",
                 "",
                 {}};
  }
  std::sort(out.names.begin(), out.names.end(), natural_less);
  if (!others.empty()) {
    out.notes.push_back(escaped(folder) +
                        ": not a picture, not compared: " + join(others, " and ", 5));
  }
  for (const std::string& name : out.names) {
    const std::string path = folder + "/" + name;
    LS_TRY(const std::string bytes, read_text(files, path, kMaxPictureNbytes));
    LS_TRY(Frame frame, decode_png(std::as_bytes(std::span(bytes)), path));
    out.frames.push_back(std::move(frame));
  }
  return out;
}

}  // namespace loadstone::compare
