// Parts of the program that need no run: tables, the loss picture, the progress line.
#include <catch2/catch.hpp>

#include "cli/program.hpp"
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
