# The built program between real clients and a real PostgreSQL: one ctest test a file (label integration). One at a time,
# because the tests measure time; with a sanitizer they leave more time for everything, and ctest -j may run several, each
# with a PostgreSQL and ports of its own, all but the one that loads the machine. See conftest.py.
if(TARGET pgsluice)
  set(PGSLUICE_SLOW 0)
  set(alone ON)
  if(PGSLUICE_SANITIZE)
    set(PGSLUICE_SLOW 1)
    set(alone OFF)
  endif()
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/test_*.py)
  foreach(file ${files})
    get_filename_component(name ${file} NAME_WE)
    string(REPLACE test_ integration_ name ${name})
    add_test(NAME ${name} COMMAND /usr/bin/python3 -B -m pytest -p no:cacheprovider -q --tb=short ${file})
    set_tests_properties(${name} PROPERTIES LABELS integration RUN_SERIAL ${alone} TIMEOUT 600
                         ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>;PGSLUICE_SLOW=${PGSLUICE_SLOW}")
  endforeach()
  set_tests_properties(integration_exact PROPERTIES RUN_SERIAL ON)
endif()
