#include "table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace loadstone::cli {
namespace {

std::string padded(const std::string& cell, size_t width, Align align, bool last) {
  const size_t used = columns_of(cell);
  const std::string blanks(width > used ? width - used : 0, ' ');
  if (align == Align::right) return blanks + cell;
  return last ? cell : cell + blanks;
}

}  // namespace

void Table::add(std::vector<std::string> cells, Style style) {
  cells.resize(columns_.size());
  rows_.push_back({std::move(cells), style});
}

std::vector<size_t> Table::widths() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(columns_of(column.title));
  for (const Row& row : rows_) {
    for (size_t i = 0; i < row.cells.size(); ++i) {
      widths[i] = std::max(widths[i], columns_of(row.cells[i]));
    }
  }
  return widths;
}

std::string Table::text(size_t indent) const {
  const auto width = widths();
  const std::string front(indent, ' ');
  const auto line = [&](const std::vector<std::string>& cells, Style style) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) text += "  ";
      text += padded(cells[i], width[i], columns_[i].align, i + 1 == cells.size());
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return front + styled(text, style) + "\n";
  };
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::string out = line(titles, Style::bold);
  const size_t total = std::accumulate(width.begin(), width.end(), 2 * (width.size() - 1));
  for (const Row& row : rows_) {
    if (!row.cells.empty()) {
      out += line(row.cells, row.style);
      continue;
    }
    std::string dashes;
    for (size_t i = 0; i < total; ++i) dashes += "─";
    out += front + styled(dashes, Style::dim) + "\n";
  }
  return out;
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.1f} %", 100 * part / whole) : "–";
}

}  // namespace loadstone::cli
