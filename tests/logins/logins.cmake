# Every way to log in, against a table of who gets in (label protocol). See run in this folder.
if(TARGET pgsluice)
  add_test(NAME logins COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_LIST_DIR}/run)
  set_tests_properties(logins PROPERTIES LABELS protocol TIMEOUT 900
    ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>;PGSLUICE_SLOW=${PGSLUICE_SLOW}")
endif()
