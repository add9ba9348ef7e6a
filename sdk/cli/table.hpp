// Aligned text tables for people.
#pragma once

#include <string>
#include <vector>

#include "terminal.hpp"

namespace loadstone::cli {

enum class Align { left, right };

/// Columns are as wide as their widest cell, two blanks apart; the last left-aligned one isn't
/// padded. Cells are plain text; styles are given per row.
class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> cells, Style style = Style::plain);
  /// A thin line before the next row, for totals.
  void rule() { rows_.push_back({{}, Style::dim}); }
  bool empty() const { return rows_.empty(); }
  /// The table with its titles, each line indented by `indent` blanks.
  std::string text(size_t indent = 0) const;

 private:
  struct Row {
    std::vector<std::string> cells;  // empty: a line
    Style style;
  };
  std::vector<size_t> widths() const;
  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

/// "63.2 %", "–" when `whole` is 0.
std::string percent(double part, double whole);

}  // namespace loadstone::cli
