#include "runtime/compare/html_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "runtime/compare/png.hpp"

namespace loadstone::compare::html {

std::string text(std::string_view raw) {
  std::string out;
  for (char c : raw) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
          out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

Result<std::string> figure(const Frame& frame, std::string_view alt, std::string_view caption) {
  LS_TRY(const std::string png, encode_png(frame));
  return fmt::format(
      "<figure><img width=\"{}\" height=\"{}\" alt=\"{}\" src=\"data:image/png;base64,{}\">"
      "<figcaption>{}</figcaption></figure>\n",
      frame.width, frame.height, text(alt), base64(png), caption);
}

std::string number(double value) {
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  return fmt::format("{:.4g}", value);
}

std::string bar(double share) {
  return fmt::format("<div class=\"bar\"><i style=\"width:{:.1f}%\"></i></div>",
                     100 * std::clamp(std::isfinite(share) ? share : 1.0, 0.0, 1.0));
}

std::string_view style() {
  return R"(:root{color-scheme:light dark;--ink:#1d2330;--soft:#5d6678;--line:#d9dde5;--page:#fff;
--good:#18794e;--bad:#c02b3c;--bar:#3f6fd8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9f0;--soft:#9aa3b5;--line:#343b4a;--page:#14171e;
--good:#4cc38a;--bad:#ff7b86;--bar:#7c9ff0}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:64rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}
p,figcaption,caption{color:var(--soft)}
.row{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}
img{max-width:100%;min-width:12rem;height:auto;image-rendering:pixelated;border:1px solid var(--line)}
figcaption{font-size:.85rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;font-size:.85rem;padding-bottom:.3rem}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}.yes,.no{white-space:nowrap}.yes{color:var(--good)}.no{color:var(--bad)}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.bar{background:var(--line);height:.6rem;min-width:6rem;margin-top:.4rem}
.bar i{display:block;height:100%;background:var(--bar)}
)";
}

}  // namespace loadstone::compare::html
