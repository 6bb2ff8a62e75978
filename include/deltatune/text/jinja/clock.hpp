// strftime_now() of transformers, for a time that the caller gives: two renderings of one conversation are the same.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

// Month and day count from 1, hours to 23.
struct DateTime {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;
};

// As strftime() in English. Throws Failure for a date that is none and for a directive that is not among %Y %y %m %B %b %d %e %j %A %a %H %I %p %M %S %F %T %%.
DELTATUNE_FUNCTION std::string format_time(const DateTime& time, std::string_view format) {
  constexpr std::string_view kMonths[] = {"January", "February", "March",     "April",   "May",      "June",
                                          "July",    "August",   "September", "October", "November", "December"};
  constexpr std::string_view kDays[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  constexpr int kDaysBefore[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  const bool is_date = time.year >= 1 && time.year <= 9999 && time.month >= 1 && time.month <= 12 && time.day >= 1 && time.day <= 31 && time.hour >= 0 &&
                       time.hour <= 23 && time.minute >= 0 && time.minute <= 59 && time.second >= 0 && time.second <= 60;
  if (!is_date) throw Failure{"the time given to the template is no date of the calendar"};
  const bool is_leap = (time.year % 4 == 0 && time.year % 100 != 0) || time.year % 400 == 0;
  const int day_of_year = kDaysBefore[time.month - 1] + time.day + (is_leap && time.month > 2 ? 1 : 0);
  const int before = time.year - 1;  // whole years since the year 1, which began on a Monday
  const int weekday = (before + before / 4 - before / 100 + before / 400 + day_of_year) % 7;
  const std::string_view month = kMonths[time.month - 1], day = kDays[weekday];
  const auto digits = [](int number, std::size_t width, char fill = '0') {
    std::string text = std::to_string(number);
    return text.size() < width ? std::string(width - text.size(), fill) + text : text;
  };

  std::string result;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      result += format[i];
      continue;
    }
    const char directive = ++i < format.size() ? format[i] : '\0';
    switch (directive) {
      case 'Y':
        result += std::to_string(time.year);
        break;
      case 'y':
        result += digits(time.year % 100, 2);
        break;
      case 'm':
        result += digits(time.month, 2);
        break;
      case 'B':
        result += month;
        break;
      case 'b':
        result += month.substr(0, 3);
        break;
      case 'd':
        result += digits(time.day, 2);
        break;
      case 'e':
        result += digits(time.day, 2, ' ');
        break;
      case 'j':
        result += digits(day_of_year, 3);
        break;
      case 'A':
        result += day;
        break;
      case 'a':
        result += day.substr(0, 3);
        break;
      case 'H':
        result += digits(time.hour, 2);
        break;
      case 'I':
        result += digits((time.hour + 11) % 12 + 1, 2);
        break;
      case 'p':
        result += time.hour < 12 ? "AM" : "PM";
        break;
      case 'M':
        result += digits(time.minute, 2);
        break;
      case 'S':
        result += digits(time.second, 2);
        break;
      case 'F':
        result += digits(time.year, 4) + "-" + digits(time.month, 2) + "-" + digits(time.day, 2);
        break;
      case 'T':
        result += digits(time.hour, 2) + ":" + digits(time.minute, 2) + ":" + digits(time.second, 2);
        break;
      case '%':
        result += '%';
        break;
      default:
        throw Failure{"strftime_now does not know a directive of its format", {.got = "\"" + std::string(format) + "\""}};
    }
  }
  return result;
}

}  // namespace deltatune::jinja
