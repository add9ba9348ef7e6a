// Small pieces of HTML, for the report.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "runtime/compare/metrics.hpp"

namespace loadstone::compare::html {

/// Text with & < > " ' escaped and control characters shown as their code.
std::string text(std::string_view raw);
std::string base64(std::string_view bytes);
/// <figure><img src="data:image/png…"><figcaption>…</figcaption></figure>; `caption` is HTML.
Result<std::string> figure(const Frame& frame, std::string_view alt, std::string_view caption);
/// "12.3", "0.00123", "∞".
std::string number(double value);
/// A bar of `share` (0..1) of the cell's width.
std::string bar(double share);
/// The style sheet of the report.
std::string_view style();

}  // namespace loadstone::compare::html
