// Parts of the program that need no run: tables, the loss picture, the progress line.
#include <catch2/catch.hpp>
#include <sstream>

#include "cli/program.hpp"
#include "confusion.hpp"
#include "loss_plot.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "suggestion.hpp"

using namespace deltatune;
using namespace deltatune::cli;

TEST_CASE("numbers as people read them", "[cli][report]") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1000) == "1,000");
  CHECK(grouped(22713216) == "22,713,216");
  CHECK(grouped(-1234) == "-1,234");
  CHECK(grouped(-123) == "-123");
  CHECK(percent(1, 3) == "33.33 %");
  CHECK(percent(0, 0) == "0.00 %");
  CHECK(megabytes(1500000) == "1.5 MB");
}

TEST_CASE("text tables line up, counted in characters", "[cli][report]") {
  TextTable table({"label", "examples"});
  table.add({"größer", "7"});
  table.add({"x"});
  CHECK(table.text() ==
        "label   examples\n"
        "------  --------\n"
        "größer         7\n"
        "x\n");
}

TEST_CASE("text tables line up where characters take two columns or none", "[cli][report]") {
  CHECK(display_width("\u4E2D\u6587") == 4);
  CHECK(display_width("e\u0301") == 1);
  CHECK(shortened("\u4E2D\u6587\u4E2D\u6587", 7) == "\u4E2D\u6587...");
  CHECK(shortened("short", 5) == "short");
  TextTable table({"label", "n"});
  table.add({"\u4E2D\u6587\u4E2D", "7"});
  table.add({"abc", "8"});
  CHECK(table.text() ==
        "label   n\n"
        "------  -\n"
        "\u4E2D\u6587\u4E2D  7\n"
        "abc     8\n");
  CHECK(table.width() == 9);
}

TEST_CASE("text is wrapped at spaces", "[cli][report]") {
  CHECK(wrapped("one two three", 7) == "one two\nthree");
  CHECK(wrapped("one two three", 8, 2) == "one two\n  three");
  CHECK(wrapped("a\n\nunbreakable b", 5) == "a\n\nunbreakable\nb");
  CHECK(wrapped("", 5).empty());
}

TEST_CASE("the table of mistakes fits the screen", "[cli][report]") {
  const auto table = [](const std::vector<std::string>& labels, std::size_t width) {
    ClassCounts counts(labels.size());
    for (std::size_t c = 0; c < labels.size(); ++c) counts.add(static_cast<std::int32_t>(c), static_cast<std::int32_t>((c + 1) % labels.size()));
    const std::string text = confusion_table(counts, labels, width);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      INFO(text);
      CHECK(display_width(line) <= width);
    }
    return text;
  };
  CHECK(table({"bad", "good"}, 80) == "truth \\ answer  bad  good\n--------------  ---  ----\nbad               0     1\ngood              1     0\n");
  std::vector<std::string> names, alike;
  for (int i = 0; i < 6; ++i) {
    names.push_back(std::to_string(i) + "th kind of complaint");
    alike.push_back("the kind of complaint number " + std::to_string(i));
  }
  CHECK_THAT(table(names, 80), Catch::Contains("0th ki...  1th ki..."));
  CHECK_THAT(table(alike, 80), Catch::Contains("truth \\ answer") && Catch::Contains("  1  2  3  4  5  6\n") && Catch::Contains("\n6 the kind of complaint"));
  for (int i = 6; i < 60; ++i) alike.push_back("the kind of complaint number " + std::to_string(i));
  CHECK_THAT(table(alike, 80), Catch::Contains("\n\ntruth \\ answer") && Catch::Contains("  60\n"));
  table({"\u4E2D\u6587\u4E2D\u6587\u4E2D\u6587\u4E2D\u6587\u4E2D\u6587\u4E2D\u6587", "b", "c"}, 60);
}

TEST_CASE("the loss picture shows any run", "[cli][plot]") {
  for (const std::vector<double>& losses : std::vector<std::vector<double>>{
           {}, {1.0}, {0.7, 0.7, 0.7}, {0.0, 0.0}, {1e-9, 2e-9}, {3e5, 1e-3, 2.0}, {1.0, std::nan(""), 0.5}, std::vector<double>(100000, 0.25)}) {
    const std::string svg = loss_plot_svg(losses);
    INFO(losses.size());
    CHECK(svg.starts_with("<svg xmlns="));
    CHECK(svg.ends_with("</svg>\n"));
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);
    CHECK(svg.size() < 100000);
    CHECK(svg.find("training loss</text>") != std::string::npos);
    CHECK(svg.find("class=\"raw\"") != std::string::npos);
    CHECK(svg.find("class=\"smooth\"") != std::string::npos);
  }
  const std::string svg = loss_plot_svg(std::vector<double>{1.0, 0.5, 0.0});
  CHECK(svg.find("class=\"raw\" stroke-linejoin=\"round\" d=\"M70.0 20.0 L385.0 195.0 L700.0 370.0\"") != std::string::npos);
  CHECK(svg.find(">0.5<") == std::string::npos);  // ticks every 0.2
  CHECK(svg.find(">0.4</text>") != std::string::npos);
}

TEST_CASE("the loss picture shows the evaluations beside the training", "[cli][plot]") {
  const std::vector<EvaluationPoint> points{{1, 2.0}, {3, 1.0}};
  const std::string svg = loss_plot_svg(std::vector<double>{1.0, 0.5, 0.0}, points);
  CHECK(svg.find("evaluation loss</text>") != std::string::npos);
  CHECK(svg.find("class=\"evaluation\" stroke-linejoin=\"round\" d=\"M70.0 20.0 L700.0 195.0\"") != std::string::npos);
  CHECK(svg.find("class=\"raw\" stroke-linejoin=\"round\" d=\"M70.0 195.0") != std::string::npos);  // on one scale
  CHECK(loss_plot_svg(std::vector<double>{1.0}).find("evaluation loss") == std::string::npos);
}

TEST_CASE("the progress line fits any terminal", "[cli][progress]") {
  const ProgressState state{1234, 12340, 0.123456, 1e-3, 123456.0, "1:23:45"};
  for (Index width = 0; width < 160; ++width) {
    const std::string line = progress_line(state, width);
    INFO(width << " " << line);
    CHECK(static_cast<Index>(line.size()) <= width);
    if (width >= 10) CHECK(line.find("1234/12340") != std::string::npos);
    if (width >= 40) CHECK(line.find("loss 0.1235") != std::string::npos);
  }
  const std::string line = progress_line({9, 100, 0.5, 1e-3, 9000, "0:10"}, 79);
  for (const char* part : {"[", "9/100", "loss 0.5000", "1.00e-03", "9,000 tokens/s", "0:10 left"}) CHECK(line.find(part) != std::string::npos);
}

TEST_CASE("what a misspelt word was meant to be", "[cli][suggestion]") {
  const std::vector<std::string> options{"learning-rate", "epochs", "batch-size", "out", "data", "eval-data", "model", "max-length"};
  CHECK(nearest("lr", options) == "learning-rate");
  CHECK(nearest("learning_rate", options) == "learning-rate");
  CHECK(nearest("learning", options) == "learning-rate");
  CHECK(nearest("epoch", options) == "epochs");
  CHECK(nearest("modle", options) == "model");
  CHECK(nearest("batchsize", options) == "batch-size");
  CHECK(nearest("output", options) == "out");
  CHECK(nearest("frobnicate", options).empty());
}
