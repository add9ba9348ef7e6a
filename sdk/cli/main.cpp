// loadstone: the command line. Parses, runs one command, says what went wrong.
#include <variant>

#include "commands.hpp"
#include "exit_code.hpp"
#include "parse.hpp"
#include "terminal.hpp"

namespace loadstone::cli {

Status print(const std::string& text) {
  if (write_out(text)) return {};
  return Error{Code::io, "output not written", "standard output", "", "", {}};
}

namespace {

Result<int> run(const PrintText& text) {
  LS_CHECK(print(text.text));
  return kFine;
}

int main_of(int argc, const char* const* argv) {
  auto invocation = parse_command_line(argc, argv);
  if (!invocation) {
    print_error(invocation.error());
    return exit_code_of(invocation.error().code);
  }
  auto done = std::visit([](const auto& options) { return run(options); }, *invocation);
  if (done) return *done;
  print_error(done.error());
  return exit_code_of(done.error().code);
}

}  // namespace
}  // namespace loadstone::cli

int main(int argc, char** argv) { return loadstone::cli::main_of(argc, argv); }
