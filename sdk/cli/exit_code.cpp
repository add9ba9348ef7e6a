#include "exit_code.hpp"

#include "terminal.hpp"

namespace loadstone::cli {

int exit_code_of(Code code) {
  switch (code) {
    case Code::invalid_argument:
    case Code::invalid_config:
    case Code::invalid_checkpoint:
    case Code::not_found:
    case Code::unsupported:
      return kWrongInput;
    case Code::resource:
    case Code::io:
    case Code::internal:
      return kFailed;
    case Code::cancelled:
      return kCancelled;
  }
  return kFailed;
}

void print_error(const Error& error) {
  const std::string text = error.text();
  const std::string front = styled("loadstone: error:", Style::red, Stream::err) + " ";
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    write_err(front + text.substr(begin, end - begin) + "\n");
    begin = end + 1;
  }
}

void print_note(const std::string& text) {
  write_err(styled("loadstone: note:", Style::yellow, Stream::err) + " " + text + "\n");
}

}  // namespace loadstone::cli
