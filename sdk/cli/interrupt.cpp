#include "interrupt.hpp"

#include <csignal>

namespace loadstone::cli {
namespace {

CancelToken& token() {
  static CancelToken instance;
  return instance;
}

void on_interrupt(int) { token().cancel(); }

}  // namespace

const CancelToken& interrupt_token() {
  static const bool installed = [] {
    token();  // made before a signal can need it
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigemptyset(&action.sa_mask);
    return ::sigaction(SIGINT, &action, nullptr) == 0;
  }();
  (void)installed;
  return token();
}

}  // namespace loadstone::cli
