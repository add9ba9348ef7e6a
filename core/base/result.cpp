#include "base/result.hpp"

namespace loadstone {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::invalid_argument:
      return "invalid_argument";
    case Code::invalid_config:
      return "invalid_config";
    case Code::invalid_checkpoint:
      return "invalid_checkpoint";
    case Code::not_found:
      return "not_found";
    case Code::unsupported:
      return "unsupported";
    case Code::resource:
      return "resource";
    case Code::io:
      return "io";
    case Code::cancelled:
      return "cancelled";
    case Code::internal:
      return "internal";
  }
  return "internal";
}

std::string Error::text() const {
  std::string out = message;
  if (!where.empty()) out += ": " + where;
  if (!detail.empty()) out += ": " + detail;
  if (!hint.empty()) out += "; did you mean " + hint + "?";
  for (const Error& other : more) out += "\n" + other.text();
  return out;
}

Error Error::at(std::string_view outer) && {
  where = where.empty() ? std::string(outer) : std::string(outer) + ": " + where;
  return std::move(*this);
}

}  // namespace loadstone
